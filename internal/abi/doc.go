// Package abi holds the layouts and numbers of Xen's public interface and of
// Linux's Xen devices that this module uses, for x86-64, as plain data. Names
// follow xen/include/public and include/uapi/xen. A test compares all of them
// with what a C compiler says of the headers of Xen 4.14, 4.17 and 4.20, in
// testdata/abi; a number that depends on the release says so.
//
// The types are laid over hypercall memory, so they contain no Go pointers:
// a guest handle is a uint64 holding a virtual address.
package abi

// PageSize is the size of a page and of a guest frame.
const PageSize = 4096
