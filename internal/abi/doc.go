// Package abi holds the layouts and numbers of Xen's public interface and of
// Linux's Xen devices that this module uses, for x86-64, as plain data. Names
// follow xen/include/public and include/uapi/xen. Every layout is pinned by a
// size and offset test; a number that depends on the release says so.
//
// The types are laid over hypercall memory, so they contain no Go pointers:
// a guest handle is a uint64 holding a virtual address.
package abi

// PageSize is the size of a page and of a guest frame.
const PageSize = 4096
