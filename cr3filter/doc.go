// Package cr3filter tells which process a vCPU runs, by the page-table roots
// that it loads, and confines breakpoints to the processes of interest.
//
// A process is a set of roots: under kernel page-table isolation (KPTI) Linux
// gives it two that differ in bit 12, and bits 0-11 hold the PCID, so a root
// is compared under a mask. A root is reused after its process's exit.
//
// [Filter] reports the switches to and from watched roots. On a Xen with this
// module's patches/xen the hypervisor filters, and the guest's other switches
// cost it an exit at most; on any other, from 4.14 on, every CR3 write whose
// unmasked bits change comes to the monitor, which filters. [Scope] keeps the
// roots of a Linux process watched from its start to its end and has
// breakpoints in place only while it runs.
package cr3filter
