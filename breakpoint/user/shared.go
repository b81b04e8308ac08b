package user

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

const int3 = 0xcc

// Where there are no views, the int3s are in frames of the guest's page cache, and in
// what the guest has copied from them since.

// owns reports whether the breakpoint's frame is still what it was: then the byte may
// be put back.
func (b *Breakpoint) owns() bool {
	if gfn, err := b.file.Frame(b.offset); err == nil && gfn == b.gfn {
		return true
	}
	if b.cached || b.p.gone {
		return false
	}
	pa, ok := b.p.space.Mapped(b.own)
	return ok && pa.GFN() == b.gfn
}

// strayed puts right what a vCPU runs into that is a copy of one of the breakpoints: of
// another process, which has written to the page, or of the kernel, which has moved it.
func (p *Process) strayed(r *xen.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	here := vmi.PhysAddr(r.Breakpoint.GFN)<<xen.PageShift + vmi.PhysAddr(r.Regs.RIP%xen.PageSize)
	if err := p.eachSpace(func(t linux.Task, root vmi.CR3) error {
		if !breakpoint.InRoot(root)(r) {
			return nil
		}
		return p.eachCopy(t, root, func(b *Breakpoint, at vmi.PhysAddr) error {
			if at != here {
				return nil
			}
			return b.repair(at)
		})
	}); err != nil {
		p.stats.Failed++
	}
	now, err := p.byteAt(here)
	return err == nil && now != int3 // also if somebody else was faster
}

func (p *Process) byteAt(at vmi.PhysAddr) (byte, error) {
	var b [1]byte
	_, err := p.kernel.AddressSpace().Memory().ReadAt(b[:], at)
	return b[0], err
}

// repair puts the breakpoint's byte back where there is an int3 that is a copy of it.
func (b *Breakpoint) repair(at vmi.PhysAddr) error {
	if now, err := b.p.byteAt(at); err != nil || now != int3 {
		return err
	}
	return b.p.engine.Repair(at, b.code)
}

// putRight puts all copies of the breakpoints right, while the guest stands still.
func (p *Process) putRight() error {
	return p.engine.Still(func() error {
		var errs []error
		for _, b := range p.points {
			if gfn, err := b.file.Frame(b.offset); err == nil && b.placed {
				errs = append(errs, b.repair(vmi.PhysAddr(gfn)<<xen.PageShift+vmi.PhysAddr(b.offset%xen.PageSize)))
			}
		}
		errs = append(errs, p.eachSpace(func(t linux.Task, root vmi.CR3) error {
			return p.eachCopy(t, root, (*Breakpoint).repair)
		}))
		return errors.Join(errs...)
	})
}

// eachSpace calls f with a task of each process of the guest.
func (p *Process) eachSpace(f func(t linux.Task, root vmi.CR3) error) error {
	var errs []error
	seen := map[vmi.CR3]struct{}{}
	for t, err := range p.kernel.Threads() {
		if err != nil {
			errs = append(errs, err)
			break
		}
		root, err := t.Root()
		if err != nil { // the kernel's own, or one that is ending
			continue
		}
		if _, ok := seen[root]; ok {
			continue
		}
		seen[root] = struct{}{}
		errs = append(errs, f(t, root))
	}
	return errors.Join(errs...)
}

// eachCopy calls f with where a task's process has the places of the breakpoints, as
// far as there are pages.
func (p *Process) eachCopy(t linux.Task, root vmi.CR3, f func(b *Breakpoint, at vmi.PhysAddr) error) error {
	var errs []error
	space := p.space.WithRoot(root)
	seen := map[*linux.MappedFile]struct{}{}
	for _, one := range p.points {
		if _, ok := seen[one.file]; ok {
			continue
		}
		seen[one.file] = struct{}{}
		for a, err := range one.file.Areas(t) {
			if err != nil {
				if !errors.Is(err, linux.ErrNoMM) {
					errs = append(errs, fmt.Errorf("copies of breakpoints: %w", err))
				}
				break
			}
			for _, b := range p.points {
				if va, ok := a.Addr(b.offset); ok && b.file == one.file && b.placed {
					if at, ok := space.Mapped(va); ok {
						errs = append(errs, f(b, at))
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}
