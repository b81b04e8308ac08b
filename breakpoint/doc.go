// Package breakpoint stops a guest's vCPUs at chosen instructions and lets
// them go on as if nothing had been there.
//
// A breakpoint is an int3 patched over the first byte of an instruction. When
// a vCPU executes it, the handler runs and the answer lets Xen emulate the
// original instruction, or skips one that does nothing: one trip through the
// vm_event ring, no single step and no moment at which another vCPU would find
// the breakpoint missing.
//
// The byte is in the guest's own frame, where the guest can read it and Close
// puts it back, or in a frame of the monitor's that an altp2m view shows in its
// place (see [Views]): then only vCPUs that were switched to the view run into
// it, and the guest's own memory stays as it is. A program of the guest that
// runs in the view can read the byte there.
//
// Requires Xen 4.14 or newer and an HVM or PVH guest with hardware-assisted
// paging; views an Intel processor, altp2m=1 on Xen's command line and
// altp2m="external" in the guest's configuration.
package breakpoint
