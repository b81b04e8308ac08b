package journal

import (
	"errors"

	"github.com/govmi/govmi/xen"
)

// Domain is a domain with a [Journal]: what has to be undone is written down
// before it is done. All else is as with [xen.Domain].
type Domain struct {
	*xen.Domain
	journal *Journal
}

// SetAltP2M is [xen.Domain.SetAltP2M].
func (d *Domain) SetAltP2M(on bool) error {
	if on {
		if err := d.journal.add(record{kind: kindAltP2M}); err != nil {
			return err
		}
	}
	err := d.Domain.SetAltP2M(on)
	if on == (err != nil) { // it is off
		d.journal.undone(record{kind: kindAltP2MOff})
	}
	return err
}

// CreateView is [xen.Domain.CreateView].
func (d *Domain) CreateView() (xen.View, error) {
	v, err := d.Domain.CreateView()
	if err != nil {
		return v, err
	}
	if err := d.journal.add(record{kind: kindView, view: v}); err != nil {
		return 0, errors.Join(err, d.Domain.DestroyView(v))
	}
	return v, nil
}

// DestroyView is [xen.Domain.DestroyView].
func (d *Domain) DestroyView(v xen.View) error {
	err := d.Domain.DestroyView(v)
	if err == nil {
		d.journal.undone(record{kind: kindViewGone, view: v})
	}
	return err
}

// Populate is [xen.Domain.Populate], and allows the domain more pages if it has
// about as many as it may have: [Journal.Close] and [Recover] take that back. The domain
// is paused meanwhile, so that no page that the guest puts there itself is ever
// taken for one that a monitor did. Take the page back with
// [xen.Domain.RemoveFrame].
func (d *Domain) Populate(gfn xen.GFN) (err error) {
	if err := d.Pause(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Unpause()) }()
	taken, err := there(d.Domain, gfn)
	if err != nil {
		return err
	}
	if taken {
		return d.Domain.Populate(gfn) // it says so
	}
	if err := d.makeRoom(); err != nil {
		return err
	}
	if err := d.journal.add(record{kind: kindFrame, gfn: gfn}); err != nil {
		return err
	}
	if err := d.Domain.Populate(gfn); err != nil {
		d.journal.undone(record{kind: kindFrameGone, gfn: gfn})
		return err
	}
	if err := d.journal.add(record{kind: kindFrameThere, gfn: gfn}); err != nil {
		return errors.Join(err, d.RemoveFrame(gfn))
	}
	return nil
}

// makeRoom lets the domain have another page, and one more: the ring's, which a
// recovery puts there for a moment.
func (d *Domain) makeRoom() error {
	const room = 2
	info, err := d.Info()
	if err != nil || info.Pages+room <= info.MaxPages {
		return err
	}
	return d.setMaxPages(info.MaxPages, info.Pages+room)
}

// SetMaxPages is [xen.Domain.SetMaxPages]. [Journal.Close] and [Recover] set what
// was before, unless somebody else has set the limit since.
func (d *Domain) SetMaxPages(n uint64) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	return d.setMaxPages(info.MaxPages, n)
}

func (d *Domain) setMaxPages(before, n uint64) error {
	if err := d.journal.add(record{kind: kindLimit, before: before, after: n}); err != nil {
		return err
	}
	return d.Domain.SetMaxPages(n)
}

// Restricting writes down that the guest may do less than everything with n frames
// from first on, by [xen.Monitor.SetAccess], until the monitor is closed or
// [Recover] allows it again. The frames between two that were restricted count as
// restricted.
func (d *Domain) Restricting(first xen.GFN, n uint32) error {
	if n == 0 {
		return nil
	}
	return d.journal.add(record{kind: kindAccess, gfn: first, last: first + xen.GFN(n-1)})
}

// Patching writes down that the first byte of the instruction insn, at offset in
// the guest's frame gfn, is to become an int3; of insn as much as is in the frame
// is enough: the domain is a breakpoint.Recorder.
func (d *Domain) Patching(gfn xen.GFN, offset int, insn []byte) error {
	insn = insn[:min(len(insn), maxInsn, xen.PageSize-offset)]
	return d.journal.add(record{kind: kindPatch, gfn: gfn, offset: uint16(offset), insn: string(insn)})
}

// Unpatched writes down that the byte is the original one for good.
func (d *Domain) Unpatched(gfn xen.GFN, offset int) {
	d.journal.undone(record{kind: kindPatchGone, gfn: gfn, offset: uint16(offset)})
}
