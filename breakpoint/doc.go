// Package breakpoint stops a guest's vCPUs at chosen instructions and lets
// them go on as if nothing had been there.
//
// A breakpoint is an int3 patched over the first byte of an instruction. When
// a vCPU executes it, the handler runs and the answer lets Xen emulate the
// original instruction: one trip through the vm_event ring, no single step
// and no moment at which another vCPU would find the breakpoint missing. The
// guest can read the patched byte; nothing but the byte is changed, and Close
// puts it back.
//
// Requires Xen 4.14 or newer and an HVM or PVH guest with hardware-assisted
// paging.
package breakpoint
