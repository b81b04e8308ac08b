// Package xenfake is an in-memory hypervisor that answers the kernel's Xen
// devices at the level of ioctls, for unit tests. Guest frames are real shared
// mappings, the monitor ring follows Xen's rules and reports whoever breaks
// them, hypercall arguments outside of hypercall memory fail as they do in
// Xen, and any call can be made to fail.
//
// It needs Linux (memory files, pipes); tests that use it have the same
// constraint.
package xenfake
