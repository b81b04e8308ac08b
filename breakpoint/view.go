package breakpoint

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// ViewDomain is what [OpenViews] needs of a guest. [xen.Domain] is one.
type ViewDomain interface {
	AltP2M() (bool, error)
	SetAltP2M(on bool) error
	CreateView() (xen.View, error)
	ChangeGFN(v xen.View, from, to xen.GFN) error
	ResetGFN(v xen.View, gfn xen.GFN) error
	SetViewAccess(v xen.View, gfn xen.GFN, a xen.Access) error
	SwitchView(v xen.View) error
	MaximumGPFN() (xen.GFN, error)
	Populate(gfn xen.GFN) error
	RemoveFrame(gfn xen.GFN) error
}

// Views is a guest's altp2m, and the frames behind what its views show in place
// of the guest's own. Its methods may be called from any goroutine.
type Views struct {
	dom    ViewDomain
	frames vmi.FrameMapper

	mu      sync.Mutex
	next    xen.GFN // above all of the guest's frames
	own     []xen.GFN
	engines map[xen.View]*Engine
	writing map[xen.VCPU]xen.View // vCPUs that write to a frame, and where they go back to
	closed  bool
}

// OpenViews turns the guest's altp2m on. The guest's memory is copied through
// frames. The error matches [xen.ErrNotSupported], and says what is missing,
// where there is no altp2m, [xen.ErrBusy] if it is on already: another program
// uses it, or one died.
//
// The caller needs single-step events (see [xen.Monitor.EnableSingleStep]) and
// has [Views.HandleMemAccess] and [Views.HandleSingleStep] serve accesses to
// memory and executed instructions.
func OpenViews(dom ViewDomain, frames vmi.FrameMapper) (*Views, error) {
	on, err := dom.AltP2M()
	if err != nil {
		return nil, err
	}
	if on {
		return nil, fmt.Errorf("altp2m is on already, for another program or one that died: %w", xen.ErrBusy)
	}
	last, err := dom.MaximumGPFN()
	if err != nil {
		return nil, err
	}
	if err := dom.SetAltP2M(true); err != nil {
		return nil, err
	}
	return &Views{
		dom: dom, frames: frames, next: last + 1,
		engines: map[xen.View]*Engine{}, writing: map[xen.VCPU]xen.View{},
	}, nil
}

// NewEngine returns an engine whose breakpoints are in a view of their own: only
// a vCPU that a response has switched to it (see [Engine.View]) runs into them,
// and the guest's own frames stay as they are. dom is as for [New].
func (s *Views) NewEngine(dom Domain) (*Engine, error) {
	v, err := s.dom.CreateView()
	if err != nil {
		return nil, err
	}
	e := New(s.frames, dom)
	e.views, e.view = s, v
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engines[v] = e
	return e, nil
}

// Switch switches all vCPUs to the view v, 0 being the guest's own.
func (s *Views) Switch(v xen.View) error { return s.dom.SwitchView(v) }

// Close turns altp2m off, so that all vCPUs see the guest's own frames, and takes
// the others back. Engines are to be closed before. It is idempotent; while altp2m
// cannot be turned off it changes nothing and can be called again.
func (s *Views) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	err := s.dom.SetAltP2M(false)
	if err != nil && !errors.Is(err, xen.ErrNoDomain) {
		return err // the views may still show the frames
	}
	s.closed = true
	var errs []error
	for _, g := range s.own {
		if err := s.dom.RemoveFrame(g); !errors.Is(err, xen.ErrNoDomain) { // a guest that is gone has none of it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// shadow is what a view's frame is a copy of.
type shadow struct {
	source vmi.Frames // the guest's own frame
	guest  []byte
	copied [xen.PageSize]byte // its content when it was copied last
}

// shadow puts a copy of the frame at gfn into the view v. The guest may write to
// its own frame only: a write in the view is an event.
func (s *Views) shadow(v xen.View, gfn xen.GFN) (_ *frame, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, os.ErrClosed
	}
	source, err := mapFrame(s.frames, gfn, false)
	if err != nil {
		return nil, err
	}
	undo := []func() error{source.mapping.Close}
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	own := s.next
	if err := s.dom.Populate(own); err != nil {
		return nil, err
	}
	s.next++
	undo = append(undo, func() error { return s.dom.RemoveFrame(own) })
	f, err := mapFrame(s.frames, own, true)
	if err != nil {
		return nil, err
	}
	undo = append(undo, f.mapping.Close)
	f.shadow = &shadow{source: source.mapping, guest: source.bytes}
	f.copy()
	if err := s.dom.ChangeGFN(v, gfn, own); err != nil {
		return nil, err
	}
	// Before the frame goes: the view would show what it is used for next.
	undo = append(undo, func() error { return s.dom.ResetGFN(v, gfn) })
	if err := s.dom.SetViewAccess(v, gfn, xen.AccessRX); err != nil {
		return nil, err
	}
	s.own = append(s.own, own)
	return f, nil
}

// stale reports that the guest has changed its own frame since it was copied.
func (s *shadow) stale() bool { return !bytes.Equal(s.guest, s.copied[:]) }

// copy makes the view's frame equal to the guest's own.
func (f *frame) copy() {
	copy(f.shadow.copied[:], f.shadow.guest)
	copy(f.bytes, f.shadow.copied[:])
}

// View is the view that the engine's breakpoints are in, 0 if they are in the
// guest's own frames.
func (e *Engine) View() xen.View { return e.view }

// Refresh takes over what the guest has changed in the frames that hold
// breakpoints, since the engine's view shows copies of them. It is for handlers
// that switch a vCPU to the view, and costs some hundred instructions for each
// of the frames if nothing has changed.
func (e *Engine) Refresh() {
	for _, f := range *e.mapped.Load() {
		if f.shadow != nil && f.shadow.stale() {
			e.refresh(f)
		}
	}
}

func (e *Engine) refresh(f *frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.copy()
	e.refreshed.Add(1)
	for _, b := range *e.armed.Load() {
		if b.inPlace && (*e.mapped.Load())[b.phys.GFN()] == f && !f.arm(b.phys.Offset()) {
			b.inPlace = false
			e.overwritten.Add(1)
		}
	}
}

// HandleMemAccess answers an access that a view forbids, a write of the guest to
// code of its own: the vCPU does it to the guest's own frame. Set it as the
// handler of a [vmi.Loop].
func (s *Views) HandleMemAccess(r *xen.Request) xen.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.engines[r.View]; e != nil {
		e.writes.Add(1)
	}
	s.writing[r.VCPU] = r.View
	return xen.Response{Switch: true, View: 0, Step: xen.ToggleStep}
}

// HandleSingleStep takes over what the vCPU has written and lets it go back to
// its view: a vCPU may stay there for ever, and is not to execute what the guest
// has changed. A vCPU that steps for another reason stops it where it is. Set it
// as the handler of a [vmi.Loop].
func (s *Views) HandleSingleStep(r *xen.Request) xen.Response {
	view, wrote, engines := s.written(r.VCPU)
	if !wrote {
		return xen.Response{Step: xen.ToggleStep}
	}
	for _, e := range engines {
		e.Refresh()
	}
	return xen.Response{Switch: true, View: view, Step: xen.ToggleStep}
}

func (s *Views) written(v xen.VCPU) (back xen.View, wrote bool, all []*Engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	back, wrote = s.writing[v]
	delete(s.writing, v)
	return back, wrote, slices.Collect(maps.Values(s.engines))
}
