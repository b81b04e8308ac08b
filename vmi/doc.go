// Package vmi reads what a guest is from outside: its physical memory, the
// virtual address spaces that its page tables describe, and its events. It
// issues no hypercall itself; it takes the few capabilities that it needs as
// small interfaces, which a live domain, a recording or a fake implement.
package vmi
