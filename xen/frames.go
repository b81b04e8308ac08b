package xen

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/privcmd"
)

// mapBatch is the number of frames mapped by one ioctl. The kernel holds the
// process's memory map for that long, so a larger batch stalls all threads.
const mapBatch = 2048

// Frames is a set of guest frames mapped into this process. Len and Frame may
// be called from several goroutines, Close not at the same time as anything.
//
// A mapping holds on to the page that the guest had at the frame number when
// it was mapped. If the guest gives the frame away and gets another page
// there, the mapping still shows the old one.
type Frames struct {
	dom    *Domain
	conn   *privcmd.Conn
	gfns   []GFN
	chunks [][]byte // of mapBatch frames each but the last
	errs   []int32  // negative
}

// MapFrames maps guest frames into this process, each GFN to PageSize bytes.
// A frame that cannot be mapped, because the guest has no memory there, does
// not fail the others: [Frames.Frame] tells. An error of MapFrames itself
// means that nothing is mapped. The caller closes the frames.
//
// Mapping is expensive, a system call and at least one hypercall per batch:
// keep frames that are needed again.
func (d *Domain) MapFrames(gfns []GFN, writable bool) (*Frames, error) {
	const op = "map frames"
	if len(gfns) == 0 {
		return nil, fault(op, d.id, nil, "no frames asked for")
	}
	f := &Frames{dom: d, conn: d.hyp.conn, gfns: slices.Clone(gfns), errs: make([]int32, len(gfns))}
	for at := 0; at < len(gfns); at += mapBatch {
		end := min(at+mapBatch, len(gfns))
		mem, err := privcmd.MapFrames(f.conn, uint16(d.id), f.gfns[at:end], f.errs[at:end], writable)
		if err != nil {
			return nil, errors.Join(d.fail(op, err, ""), f.Close())
		}
		f.chunks = append(f.chunks, mem)
	}
	return f, nil
}

// Len returns the number of frames asked for.
func (f *Frames) Len() int { return len(f.gfns) }

// Frame returns the PageSize bytes of the i'th frame, or why it could not be
// mapped. The slice is the guest's memory itself: it changes while the guest
// runs, and it must not be used after [Frames.Close]. Writing to it is fatal
// unless the frames were mapped writable.
func (f *Frames) Frame(i int) ([]byte, error) {
	u := uint(i)
	if u >= uint(len(f.errs)) || f.errs[u] != 0 || f.chunks == nil {
		return nil, f.refused(i)
	}
	off := u % mapBatch * abi.PageSize
	return f.chunks[u/mapBatch][off : off+abi.PageSize : off+abi.PageSize], nil
}

// refused tells why there is no i'th frame.
func (f *Frames) refused(i int) error {
	switch {
	case i < 0 || i >= len(f.gfns):
		return fault("map frames", f.dom.id, nil, fmt.Sprintf("frame %d of %d", i, len(f.gfns)))
	case f.chunks == nil:
		return fault("map frames", f.dom.id, ErrClosed, "")
	}
	errno, advice := syscall.Errno(-f.errs[i]), "the guest has no memory there"
	switch errno {
	case syscall.EACCES:
		advice = "Xen's security policy (FLASK) does not let this domain map it: xl dmesg shows what was denied"
	case syscall.EPERM:
		advice = "Xen does not let this domain map it: besides dom0 only a PV domain can map others' memory"
	}
	return f.dom.fail(fmt.Sprintf("map frame %v", f.gfns[i]), errno, advice)
}

// Close unmaps the frames. It is idempotent.
func (f *Frames) Close() error {
	var errs []error
	for _, c := range f.chunks {
		errs = append(errs, f.dom.fail("unmap frames", f.conn.Unmap(c), ""))
	}
	f.chunks = nil
	return errors.Join(errs...)
}
