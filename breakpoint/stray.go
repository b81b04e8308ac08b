package breakpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// maxFrames bounds the frames that a guest can have an engine keep mapped by copying
// breakpoints.
const maxFrames = 1 << 14

// Stray is asked about int3s that are not breakpoints of the engine's. The guest may
// have copied one with the page that it is in.
type Stray struct {
	engine *Engine
	ask    func(r *xen.Request) bool
}

// OnStray has ask called for each int3 that is neither a breakpoint in place nor one
// that has just gone, before it is given back to the guest. It reports whether it has
// put the byte right, see [Engine.Repair]: the vCPU executes what is there then. Rules
// of [xen.Handler] apply.
func (e *Engine) OnStray(ask func(r *xen.Request) bool) *Stray {
	s := &Stray{e, ask}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := append(slices.Clip(*e.strays.Load()), s)
	e.strays.Store(&next)
	return s
}

// Close has it not be asked any more. It is idempotent.
func (s *Stray) Close() error {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(*e.strays.Load()), func(o *Stray) bool { return o == s })
	e.strays.Store(&next)
	return nil
}

// Repair replaces an int3 of the guest's memory, of which the caller knows that it is
// a copy of the engine's, by the byte that it stands for, with the guest paused. Where
// there is something else, or a breakpoint of the engine's, it does nothing. The frame
// stays mapped until Close, so that vCPUs on their way from that int3 are answered as
// those from a breakpoint that has gone.
//
// It is for breakpoints in the guest's own frames: the error matches
// [xen.ErrNotSupported] for an engine with views.
func (e *Engine) Repair(at vmi.PhysAddr, original byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return fmt.Errorf("repair of %v: %w", at, os.ErrClosed)
	case e.views != nil:
		return fmt.Errorf("repair of %v: breakpoints in views are not copied: %w", at, xen.ErrNotSupported)
	case original == int3, (*e.sites.Load())[at] != nil:
		return nil
	}
	if n := len(*e.mapped.Load()); n >= maxFrames {
		return fmt.Errorf("repair of %v: %d frames are mapped", at, n)
	}
	f, err := e.frame(at.GFN())
	if err != nil {
		return fmt.Errorf("repair of %v: %w", at, err)
	}
	if f.bytes[at.Offset()] != int3 {
		return nil
	}
	return e.paused(func() {
		f.bytes[at.Offset()] = original
		e.repaired.Add(1)
	})
}

// Still calls f while the guest is paused.
func (e *Engine) Still(f func() error) error {
	var err error
	return errors.Join(e.paused(func() { err = f() }), err)
}
