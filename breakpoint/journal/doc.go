// Package journal keeps, in a file, what a monitor has done to a guest that the
// guest needs undone should the monitor be killed: the bytes patched in its
// memory, the frames that it may do less with, the views, the pages and the memory
// given to it. Each is written down before it is done. [Recover] brings the guest
// back from there.
//
// A monitor opens its journal when it has the domain's ring, and works on the
// guest through [Journal.Domain]:
//
//	mon, err := dom.OpenMonitor(nil)
//	j, err := journal.Open(dom, nil)
//	views, err := breakpoint.OpenViews(j.Domain(), frames)
//	...
//	mon.Close()
//	j.Close()
//
// # What survives what
//
// What is written is the kernel's: it survives the end of the process, however it
// ends, and is not flushed to a disk, because nothing that it is needed for
// survives the end of dom0's kernel. When dom0 dies the host and its guests do;
// the default place, in /run, is empty afterwards, and a file elsewhere says by
// the boot's id that it is of no use.
//
// A file tells which domain it is about by its number, its UUID, the time when
// the toolstack built it ([xen.Domain.StartTime]), and the processor time that it
// had used: that of a domain that had the number before, or of the same guest
// before a reboot, is taken for what it is and dropped. The monitor's memory of a
// guest that was saved or migrated with patched bytes in it ends there as well.
//
// A record that was being written when the process died ends the file, and says
// nothing, since what it was about had not begun.
package journal
