// Package breakpoint stops a guest's vCPUs at chosen instructions and lets
// them go on as if nothing had been there.
//
// A breakpoint is an int3 patched over the first byte of an instruction. When
// a vCPU executes it, the handler runs and the answer gets the vCPU past the
// original instruction, by one of several ways (see [Strategy]): Xen emulates it,
// or the vCPU executes it alone in an altp2m view without breakpoints. That is one
// trip through the vm_event ring, and there is no moment at which another vCPU
// would find the breakpoint missing. An instruction that does nothing is skipped.
//
// The byte is in the guest's own frame, where the guest can read it and Close
// puts it back, or in a frame of the monitor's that an altp2m view shows in its
// place (see [Views]): then only vCPUs that were switched to the view run into
// it, the guest's own memory stays as it is, and programs of the guest do not see
// it either.
//
// [Open] takes the best that there is. Several callers may have breakpoints at one
// address, with conditions, and for one hit only (see [InsertOptions]).
//
// An instruction that faults is executed again when the fault is dealt with, and
// hit again. Instructions that end up in the hypervisor, or that repeat, are refused
// where they would have to be stepped; x86 code does not tell where instructions
// begin, so an address in the middle of one cannot be.
//
// Of a monitor that was killed, a recovery with package breakpoint/journal puts
// the bytes back and takes the view's frames from the guest.
//
// Requires Xen 4.14 or newer and an HVM or PVH guest with hardware-assisted
// paging; views an Intel processor, altp2m=1 on Xen's command line and
// altp2m="external" in the guest's configuration.
package breakpoint
