package breakpoint

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/govmi/govmi/xen"
)

// steps is what is known of vCPUs that step.
type steps struct {
	mu    sync.Mutex
	of    []stepping // by vCPU
	moved uint64     // how often all vCPUs were switched
}

// stepping is a vCPU that executes one instruction in the view without breakpoints
// and comes back by an event.
type stepping struct {
	on    bool
	wrote bool // to a frame that views show copies of
	back  xen.View
	moved uint64 // as of the last answer: a request may be from before
}

// at returns a vCPU's state. The caller holds mu.
func (s *steps) at(v xen.VCPU) *stepping {
	for int(v) >= len(s.of) {
		s.of = append(s.of, stepping{})
	}
	return &s.of[v]
}

// begin notes that the vCPU steps and comes back by an event.
func (s *steps) begin(v xen.VCPU, back xen.View, wrote bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.at(v)
	p.on, p.back, p.wrote = true, back, wrote
}

// end notes that it came, and returns what was known.
func (s *steps) end(v xen.VCPU) stepping {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.at(v)
	was := *p
	p.on = false
	return was
}

// begun reports whether the vCPU is to come back by an event.
func (s *steps) begun(v xen.VCPU) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at(v).on
}

// move notes that all vCPUs are switched to a view, and has those that are on a
// step come back there.
func (s *steps) move(to xen.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved++
	for i := range s.of {
		s.of[i].back = to
	}
}

// settled reports whether the vCPU was answered since all were switched.
func (s *steps) settled(v xen.VCPU) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.at(v)
	was := p.moved
	p.moved = s.moved
	return was == s.moved
}

// back is the view that the vCPU of a request goes back to: the one that it is in.
// The first request after all were switched may be from before that, and Xen is
// asked.
func (s *Views) back(r *xen.Request) xen.View {
	if !s.steps.settled(r.VCPU) {
		if v, err := s.dom.VCPUView(r.VCPU); err == nil {
			return v
		}
	}
	return r.View
}

// step lets a vCPU execute the instruction at RIP in the view without breakpoints
// and go on in the view back.
func (s *Views) step(v xen.VCPU, w way, back xen.View, resp *xen.Response) {
	resp.Switch, resp.View = true, s.clean
	if w == twoTrips {
		s.steps.begin(v, back, false)
		resp.Step = xen.ToggleStep
		return
	}
	resp.Step, resp.StepView = xen.FastStep, back
}

// stepWay is how vCPUs step for other reasons than breakpoints.
func (s *Views) stepWay() way {
	if s.how == ViewTwoTrips {
		return twoTrips
	}
	return fastStep
}

// HandleSingleStep takes over what the vCPU has written, if it did, and lets it go
// back to its view: a vCPU may stay there for ever, and is not to execute what the
// guest has changed. A vCPU that steps for another reason stops it where it is. Set
// it as the handler of a [vmi.Loop].
func (s *Views) HandleSingleStep(r *xen.Request) xen.Response {
	t := s.steps.end(r.VCPU)
	if !t.on {
		return xen.Response{Step: xen.ToggleStep}
	}
	if t.wrote {
		for _, e := range s.all() {
			e.Refresh()
		}
	}
	return xen.Response{Switch: true, View: t.back, Step: xen.ToggleStep}
}

// How long a vCPU may take for one instruction, and how often it is looked at.
const (
	stepPatience = time.Second
	stepInterval = time.Millisecond
)

// settle waits until no vCPU is on a step that Xen ends by itself, and returns with
// the guest paused: such a step would bring the vCPU to a view that is not meant
// for it any more. Before Xen 4.19 it would never end once single-step events are
// off, and nothing but the view that a vCPU is in tells of it. With both, steps that
// end in an event are waited for as well, for which events have to be served.
//
// The guest is paused unless perr is not nil. err says which vCPU does not get on,
// because the guest is paused by somebody else.
func (s *Views) settle(both bool) (perr, err error) {
	begin, wait := time.Now(), time.Duration(0)
	for {
		if perr := s.dom.Pause(); perr != nil {
			return perr, nil
		}
		v, busy, err := s.stepping(both)
		if err != nil || !busy {
			return nil, err
		}
		if time.Since(begin) > stepPatience {
			return nil, fmt.Errorf("vCPU %d does not end its single step: is the guest paused?", v)
		}
		if err := s.dom.Unpause(); err != nil {
			return err, nil
		}
		time.Sleep(wait)
		wait = stepInterval
	}
}

// stepping looks for a vCPU in the view without breakpoints, where none stays, or
// one that is to come back by an event.
func (s *Views) stepping(both bool) (v xen.VCPU, busy bool, err error) {
	for v := range s.vcpus {
		view, err := s.dom.VCPUView(v)
		if errors.Is(err, xen.ErrNoDomain) { // nothing steps any more
			return v, false, nil
		}
		if err != nil {
			return v, false, err
		}
		if begun := s.steps.begun(v); both && begun || view == s.clean && !begun {
			return v, true, nil
		}
	}
	return 0, false, nil
}

// all returns the engines.
func (s *Views) all() []*Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}
