package main

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/xen"
)

var _ domain = (*journal.Domain)(nil)

// fence closes frames to the guest, and lets single accesses through. access and
// step answer events on the goroutine that serves them.
type fence interface {
	access(r *xen.Request) xen.Response
	step(r *xen.Request) xen.Response
	// open takes the fence away. The monitor's Close is to follow: it answers
	// the events that wait, whose vCPUs then try their access again.
	open() error
	String() string
}

// domain is what a fence does to a guest. A [journal.Domain] is one, so that the
// fence of a program that was killed can be taken away.
type domain interface {
	AltP2M() (bool, error)
	SetAltP2M(on bool) error
	CreateView() (xen.View, error)
	SetViewAccess(v xen.View, gfn xen.GFN, a xen.Access) error
	SwitchView(v xen.View) error
	Restricting(first xen.GFN, n uint32) error
	Pause() error
	Unpause() error
}

// monitor is what a fence needs of a [xen.Monitor].
type monitor interface {
	EnableSingleStep() error
	SetAccess(first xen.GFN, n uint32, a xen.Access) error
}

// viewFence closes frames in a view that all vCPUs are in. An access is one event:
// the vCPU does it in the domain's own view, and Xen takes it back.
type viewFence struct {
	dom    domain
	view   xen.View
	opened bool
}

// newFence closes the frames of t, leaving what is in a. Events must be served
// already.
func newFence(dom domain, mon monitor, t target, a xen.Access, noViews bool) (_ fence, err error) {
	if err := mon.EnableSingleStep(); err != nil {
		return nil, err
	}
	if !noViews {
		f, err := newViewFence(dom, t, a)
		if err == nil || !errors.Is(err, xen.ErrNotSupported) {
			return f, err
		}
	}
	f := &domainFence{mon: mon, closed: a, stepping: map[xen.VCPU][]xen.GFN{}}
	for gfn := range t.spans {
		if err := dom.Restricting(gfn, 1); err != nil {
			return nil, err
		}
		if err := mon.SetAccess(gfn, 1, a); err != nil {
			return nil, fmt.Errorf("frame %#x: %w", uint64(gfn), err)
		}
	}
	return f, nil
}

func newViewFence(dom domain, t target, a xen.Access) (_ fence, err error) {
	on, err := dom.AltP2M()
	if err != nil {
		return nil, err
	}
	if on {
		return nil, fmt.Errorf("altp2m is on already, for another program or one that died: %w", xen.ErrBusy)
	}
	if err := dom.SetAltP2M(true); err != nil {
		return nil, err
	}
	f := &viewFence{dom: dom}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.open())
		}
	}()
	if f.view, err = dom.CreateView(); err != nil {
		return nil, err
	}
	for gfn := range t.spans {
		if err := dom.SetViewAccess(f.view, gfn, a); err != nil {
			return nil, fmt.Errorf("frame %#x: %w", uint64(gfn), err)
		}
	}
	return f, dom.SwitchView(f.view)
}

func (f *viewFence) String() string { return "altp2m view" }

func (f *viewFence) access(*xen.Request) xen.Response {
	return xen.Response{Switch: true, View: 0, Step: xen.FastStep, StepView: f.view}
}

// step stops a vCPU that should not step.
func (f *viewFence) step(*xen.Request) xen.Response { return xen.Response{Step: xen.ToggleStep} }

func (f *viewFence) open() error {
	if f.opened {
		return nil
	}
	f.opened = true
	paused := f.dom.Pause()
	errs := []error{gone(paused), gone(f.dom.SwitchView(0)), gone(f.dom.SetAltP2M(false))}
	if paused == nil {
		errs = append(errs, gone(f.dom.Unpause()))
	}
	return errors.Join(errs...)
}

// gone drops the error of a domain that does not exist any more.
func gone(err error) error {
	if errors.Is(err, xen.ErrNoDomain) {
		return nil
	}
	return err
}

// domainFence closes frames for the domain. An access is two events, and while
// the vCPU does it the frame is open to the others. The monitor's Close opens all.
type domainFence struct {
	mon      monitor
	closed   xen.Access
	stepping map[xen.VCPU][]xen.GFN // what is open for a vCPU's step
	err      error
}

func (f *domainFence) String() string { return "for the whole domain" }

func (f *domainFence) access(r *xen.Request) xen.Response {
	gfns := f.stepping[r.VCPU]
	f.fail(f.mon.SetAccess(r.Access.GFN, 1, xen.AccessRWX))
	f.stepping[r.VCPU] = append(gfns, r.Access.GFN)
	if len(gfns) > 0 {
		return xen.Response{} // it steps already: an instruction with two accesses
	}
	return xen.Response{Step: xen.ToggleStep}
}

func (f *domainFence) step(r *xen.Request) xen.Response {
	for _, gfn := range f.stepping[r.VCPU] {
		if !f.needed(gfn, r.VCPU) {
			f.fail(f.mon.SetAccess(gfn, 1, f.closed))
		}
	}
	delete(f.stepping, r.VCPU)
	return xen.Response{Step: xen.ToggleStep}
}

// needed reports whether another vCPU than v is in the step for which gfn is open.
func (f *domainFence) needed(gfn xen.GFN, v xen.VCPU) bool {
	for other, gfns := range f.stepping {
		for _, g := range gfns {
			if other != v && g == gfn {
				return true
			}
		}
	}
	return false
}

func (f *domainFence) fail(err error) {
	if err != nil && f.err == nil {
		f.err = err
	}
}

func (f *domainFence) open() error { return gone(f.err) }
