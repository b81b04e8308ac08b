package vmi

import (
	"context"
	"errors"
	"fmt"

	"github.com/govmi/govmi/xen"
)

// ErrTaken reports a second handler for one kind of event.
var ErrTaken = errors.New("event already has a handler")

// EventSource delivers a guest's events to one handler and pushes its answers.
// [xen.Monitor] is one.
type EventSource interface {
	Serve(ctx context.Context, h xen.Handler) error
}

// Loop hands each event of a guest to the handler for its kind. Handlers are
// set before Run; they run on the goroutine that called Run and their answer
// is pushed as soon as they return. An event that nobody handles is answered
// with [xen.Continue].
type Loop struct {
	src        EventSource
	ctrl       [4]xen.Handler
	breakpoint xen.Handler
	singleStep xen.Handler
	memAccess  xen.Handler
}

// NewLoop returns a loop over src's events.
func NewLoop(src EventSource) *Loop { return &Loop{src: src} }

// OnCtrlReg sets the handler for writes to reg. The events themselves are
// enabled at the monitor. It returns an error wrapping [ErrTaken] if reg has
// a handler.
func (l *Loop) OnCtrlReg(reg xen.CtrlReg, h xen.Handler) error {
	if int(reg) >= len(l.ctrl) {
		return fmt.Errorf("control register %d: no such index", reg)
	}
	if l.ctrl[reg] != nil {
		return fmt.Errorf("writes to control register %d: %w", reg, ErrTaken)
	}
	l.ctrl[reg] = h
	return nil
}

// OnSoftwareBreakpoint sets the handler for executed int3 instructions. It
// must answer for those of the guest itself as well: a plain Continue would
// execute the same int3 for ever. It returns an error wrapping [ErrTaken] if
// there is a handler.
func (l *Loop) OnSoftwareBreakpoint(h xen.Handler) error {
	if l.breakpoint != nil {
		return fmt.Errorf("software breakpoints: %w", ErrTaken)
	}
	l.breakpoint = h
	return nil
}

// OnSingleStep sets the handler for executed instructions of vCPUs that step.
// It returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnSingleStep(h xen.Handler) error {
	if l.singleStep != nil {
		return fmt.Errorf("single steps: %w", ErrTaken)
	}
	l.singleStep = h
	return nil
}

// OnMemAccess sets the handler for accesses that the vCPU's view forbids. It
// must let each one through or step over it: a plain Continue tries the access
// again, for ever. It returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnMemAccess(h xen.Handler) error {
	if l.memAccess != nil {
		return fmt.Errorf("memory accesses: %w", ErrTaken)
	}
	l.memAccess = h
	return nil
}

// Run serves events until ctx ends or the source fails, and returns the
// cause. The caller restores the guest afterwards, also when Run panics
// because a handler did.
func (l *Loop) Run(ctx context.Context) error {
	return l.src.Serve(ctx, l.dispatch)
}

func (l *Loop) dispatch(r *xen.Request) xen.Response {
	var h xen.Handler
	switch r.Reason {
	case xen.ReasonSoftwareBreakpoint:
		h = l.breakpoint
	case xen.ReasonMemAccess:
		h = l.memAccess
	case xen.ReasonSingleStep:
		h = l.singleStep
	case xen.ReasonWriteCtrlReg:
		if int(r.Ctrl.Reg) < len(l.ctrl) {
			h = l.ctrl[r.Ctrl.Reg]
		}
	}
	if h == nil {
		return xen.Response{}
	}
	return h(r)
}
