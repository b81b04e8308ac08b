package breakpoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// ViewDomain is what [OpenViews] needs of a guest. [xen.Domain] is one.
type ViewDomain interface {
	Info() (xen.DomainInfo, error)
	AltP2M() (bool, error)
	SetAltP2M(on bool) error
	CreateView() (xen.View, error)
	ChangeGFN(v xen.View, from, to xen.GFN) error
	ResetGFN(v xen.View, gfn xen.GFN) error
	SetViewAccess(v xen.View, gfn xen.GFN, a xen.Access) error
	SetOwnAccess(gfn xen.GFN, a xen.Access) error
	SwitchView(v xen.View) error
	VCPUView(v xen.VCPU) (xen.View, error)
	MaximumGPFN() (xen.GFN, error)
	Populate(gfn xen.GFN) error
	RemoveFrame(gfn xen.GFN) error
	Domain
}

// ViewsOptions configure [OpenViews]; nil means the zero value.
type ViewsOptions struct {
	// Strategy is how vCPUs get past breakpoints: one of those with views, of which
	// ViewByInstruction is the default.
	Strategy Strategy
	// Readable lets programs of the guest that run in a view read the int3s there,
	// which costs them nothing. Otherwise they read the original bytes, by an event,
	// which needs execute-only pages: processors with EPT have them, a hypervisor
	// below Xen may not offer them.
	Readable bool
}

// Views is a guest's altp2m, and the frames behind what its views show in place
// of the guest's own. Its methods may be called from any goroutine.
//
// A guest that looks for them finds nothing: frames with breakpoints can only be
// executed in their view, and reads are done to the guest's own; the copies, which
// need frame numbers above the guest's memory, read as no memory does, in all views.
// What it can see is time, that its domain has more memory than it was given
// (XENMEM_current_reservation) and up to where (XENMEM_maximum_gpfn). An instruction
// that Xen emulates for a breakpoint reads the copies as they are; what one with a
// breakpoint itself writes to code with breakpoints is taken over by the next
// [Engine.Refresh].
type Views struct {
	dom    ViewDomain
	frames vmi.FrameMapper
	how    Strategy
	access xen.Access // of a frame with breakpoints
	vcpus  xen.VCPU   // how many
	clean  xen.View   // without breakpoints, where vCPUs only step
	steps  steps
	hidden hidden

	probes atomic.Uint64

	mu      sync.Mutex
	next    xen.GFN // above all of the guest's frames
	own     []xen.GFN
	engines map[xen.View]*Engine
	list    []*Engine
	closed  bool
}

// OpenViews turns the guest's altp2m on. The guest's memory is copied through
// frames. The error matches [xen.ErrNotSupported], and says what is missing,
// where there is no altp2m, [xen.ErrBusy] if it is on already: another program
// uses it, or one died.
//
// The caller needs single-step events (see [xen.Monitor.EnableSingleStep]) and
// has [Views.HandleMemAccess] and [Views.HandleSingleStep] serve accesses to
// memory and executed instructions. Of the views that a domain may have, one is
// used besides those of the engines.
func OpenViews(dom ViewDomain, frames vmi.FrameMapper, o *ViewsOptions) (_ *Views, err error) {
	if o == nil {
		o = &ViewsOptions{}
	}
	how := o.Strategy
	if how == Automatic {
		how = ViewByInstruction
	}
	if !how.Views() {
		return nil, fmt.Errorf("%v needs no views: %w", how, errors.ErrUnsupported)
	}
	info, err := dom.Info()
	if err != nil {
		return nil, err
	}
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
	s := &Views{
		dom: dom, frames: frames, how: how, access: xen.AccessX, vcpus: info.MaxVCPU + 1,
		hidden: hidden{first: last + 1}, next: last + 1, engines: map[xen.View]*Engine{},
	}
	if o.Readable {
		s.access = xen.AccessRX
	}
	if s.clean, err = dom.CreateView(); err != nil {
		return nil, errors.Join(err, dom.SetAltP2M(false))
	}
	if err := s.openHidden(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Strategy returns how vCPUs get past breakpoints.
func (s *Views) Strategy() Strategy { return s.how }

// Probes counts what the guest did to the copies of its frames, above its memory,
// where it has no business.
func (s *Views) Probes() uint64 { return s.probes.Load() }

// NewEngine returns an engine whose breakpoints are in a view of their own: only
// a vCPU that a response has switched to it (see [Engine.View]) runs into them,
// and the guest's own frames stay as they are. dom is as for [New].
func (s *Views) NewEngine(dom Domain) (*Engine, error) {
	v, err := s.dom.CreateView()
	if err != nil {
		return nil, err
	}
	e := New(s.frames, dom)
	e.views, e.view, e.how = s, v, s.how
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engines[v] = e
	s.list = append(s.list, e)
	return e, nil
}

// Switch switches all vCPUs to the view v, 0 being the guest's own. One that steps
// over a breakpoint ends that first, for which a guest that is paused has a moment;
// events have to be served.
func (s *Views) Switch(v xen.View) error {
	perr, err := s.settle(v != 0)
	if perr != nil {
		return perr
	}
	if err == nil {
		s.steps.move(v)
		err = s.dom.SwitchView(v)
	}
	return errors.Join(err, s.dom.Unpause())
}

// Close turns altp2m off, so that all vCPUs see the guest's own frames, and takes
// the others back. Engines are to be closed before, and events not to be served any
// more. The guest is not to be paused, for a vCPU that is on a single step. It is
// idempotent; while altp2m cannot be turned off it changes nothing and can be called
// again.
func (s *Views) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	perr, unsettled := s.settle(false)
	err := s.dom.SetAltP2M(false)
	if perr == nil {
		perr = s.dom.Unpause()
	}
	if err != nil && !errors.Is(err, xen.ErrNoDomain) {
		return err // the views may still show the frames
	}
	s.closed = true
	errs := []error{s.hidden.close()}
	if err == nil {
		errs = append(errs, unsettled, perr)
	}
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

// shadow puts a copy of the frame at gfn into the view v. The guest reads and
// writes its own frame only: both are events in the view.
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
	// What the guest writes before the view forbids it would be in one of the two.
	if err := s.dom.Pause(); err != nil {
		return nil, err
	}
	undo = append(undo, s.dom.Unpause)
	defer func() {
		if err == nil {
			err = s.dom.Unpause()
		}
	}()
	copy(f.shadow.copied[:], f.shadow.guest)
	copy(f.bytes, f.shadow.copied[:])
	if err := s.dom.ChangeGFN(v, gfn, own); err != nil {
		return nil, err
	}
	// Before the frame goes: the view would show what it is used for next.
	undo = append(undo, func() error { return s.dom.ResetGFN(v, gfn) })
	if err := s.dom.SetViewAccess(v, gfn, s.access); err != nil {
		return nil, err
	}
	if err := s.hide(own); err != nil {
		return nil, err
	}
	s.own = append(s.own, own)
	return f, nil
}

// stale reports that the guest has changed its own frame since it was copied.
func (s *shadow) stale() bool { return !bytes.Equal(s.guest, s.copied[:]) }

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
			e.mu.Lock()
			e.refresh(f)
			e.mu.Unlock()
		}
	}
}

// refresh changes only bytes that are different: other vCPUs may execute the
// frame, and run into its breakpoints, meanwhile. A breakpoint whose first byte the
// guest has changed is the guest's own until that byte comes back, as it does when
// the kernel patches the rest of an instruction behind an int3 of its own. The
// caller holds mu.
func (e *Engine) refresh(f *frame) {
	e.placing.Lock()
	defer e.placing.Unlock()
	page := &f.shadow.copied
	copy(page[:], f.shadow.guest)
	e.refreshed.Add(1)
	for i, b := range page {
		if f.bytes[i] == b {
			continue
		}
		if _, ours := f.original[i]; !ours {
			f.bytes[i] = b
		}
	}
	for _, s := range *e.sites.Load() {
		if s.frame != f {
			continue
		}
		off := s.phys.Offset()
		there := s.inPlace.Load()
		keep := s.armed > 0 && page[off] == f.original[off] && s.learn(page[:], e.how)
		switch {
		case keep && !there:
			s.inPlace.Store(true)
			f.arm(off)
		case !keep:
			s.inPlace.Store(false)
			if f.bytes[off] = page[off]; there {
				e.overwritten.Add(1)
			}
		}
	}
}

// HandleMemAccess answers an access that a view forbids. A read of code with
// breakpoints, and whatever is done above the guest's memory, is a step in the view
// without breakpoints. A write to such code is one too, of two trips, after which
// the view's copy is made anew. Set it as the handler of a [vmi.Loop].
func (s *Views) HandleMemAccess(r *xen.Request) (resp xen.Response) {
	hidden := s.hidden.has(r.Access.GFN)
	e := s.engine(r.View)
	switch {
	case r.View == s.clean: // by somebody else's doing
		return xen.Response{Action: xen.Emulate}
	case hidden:
		s.probes.Add(1)
		s.hidden.blank()
	case e != nil && r.Access.Write:
		e.writes.Add(1)
	case e != nil:
		e.reads.Add(1)
	}
	back := s.back(r)
	if r.Access.Write && !hidden {
		s.steps.begin(r.VCPU, back, true)
		return xen.Response{Switch: true, View: s.clean, Step: xen.ToggleStep}
	}
	s.step(r.VCPU, s.stepWay(), back, &resp)
	return resp
}

// engine returns the engine of a view, or nil.
func (s *Views) engine(v xen.View) *Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engines[v]
}
