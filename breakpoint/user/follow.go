package user

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

const (
	// longest is that of an instruction, in bytes.
	longest = 15
	// maxFrames bounds the frames of a process that have or had breakpoints: the
	// engine keeps its copies of them.
	maxFrames = 1 << 12
)

var errFrames = errors.New("too many frames of the process have had breakpoints")

// Armed reports whether the page is in the guest's memory, so that hits are told,
// and why not if that is no matter of the page: the process has written something
// else there.
func (b *Breakpoint) Armed() (bool, error) {
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	return b.at != nil, b.err
}

// follow moves the breakpoint to the frame that the process has. Where that is as
// before it does not allocate.
func (b *Breakpoint) follow() error {
	if b.addr != 0 {
		pa, ok := b.p.space.Mapped(b.addr)
		switch {
		case ok && b.at != nil && pa.GFN() == b.gfn:
			return nil
		case ok && b.err != nil && pa.GFN() == b.refused:
			return b.err
		case ok:
			if err := b.mend(pa); err != nil {
				return b.refuse(pa.GFN(), err)
			}
			return b.insert(b.p.space, b.addr, pa.GFN(), false)
		}
	}
	if b.at == nil || b.cached && (!b.p.patched || b.owns()) {
		return nil
	}
	// The process's own page is gone with its mapping, or by an exec, or the page
	// cache's is.
	return b.cache()
}

// mend has a frame into which the breakpoint is to go be as without: the guest may
// have copied it.
func (b *Breakpoint) mend(at vmi.PhysAddr) error {
	if !b.p.patched || !b.placed {
		return nil
	}
	return b.repair(at)
}

// cache moves the breakpoint to the page cache's frame.
func (b *Breakpoint) cache() error {
	gfn, err := b.file.Frame(b.offset)
	if err == nil && b.offset%xen.PageSize > xen.PageSize-longest {
		// The kernel's addresses do not go on with the file's next page.
		err = fmt.Errorf("instruction at the end of a page: %w", linux.ErrNotCached)
	}
	if err != nil {
		if b.at != nil {
			_ = b.put(nil, 0, false) // a guest that cannot be paused is gone
		}
		return err
	}
	if b.at != nil && b.cached && gfn == b.gfn {
		return nil
	}
	k := b.p.kernel
	pa := vmi.PhysAddr(gfn)<<xen.PageShift + vmi.PhysAddr(b.offset%xen.PageSize)
	if err := b.mend(pa); err != nil {
		return err
	}
	va, err := k.DirectMap(pa)
	if err != nil {
		return err
	}
	return b.insert(k.AddressSpace(), va, gfn, true)
}

// insert moves the breakpoint to a frame, at an address of a space.
func (b *Breakpoint) insert(space vmi.AddressSpace, va vmi.VirtAddr, gfn xen.GFN, cached bool) error {
	p := b.p
	if _, ok := p.frames[gfn]; !ok && len(p.frames) >= maxFrames {
		return b.refuse(gfn, fmt.Errorf("%w: %d", errFrames, maxFrames))
	}
	at, err := p.engine.InsertWith(space, va, b.handler, &breakpoint.InsertOptions{When: p.hit})
	if err != nil {
		return b.refuse(gfn, err)
	}
	p.frames[gfn] = struct{}{}
	if b.at != nil {
		p.stats.Moves++
	}
	b.placed, b.code = true, at.Original()
	return b.put(at, gfn, cached)
}

// refuse has the breakpoint be nowhere while the process has that frame.
func (b *Breakpoint) refuse(gfn xen.GFN, err error) error {
	b.refused = gfn
	_ = b.put(nil, 0, false) // a guest that cannot be paused is gone
	return err
}

// put replaces the breakpoint in a frame.
func (b *Breakpoint) put(at *breakpoint.Breakpoint, gfn xen.GFN, cached bool) error {
	old, keep := b.at, b.at != nil && b.p.patched && !b.owns()
	b.at, b.gfn, b.cached, b.own = at, gfn, cached, b.addr
	switch {
	case old == nil:
		return nil
	case keep:
		old.Forget()
		return nil
	}
	return old.Remove()
}
