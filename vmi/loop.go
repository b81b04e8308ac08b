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
	msr        xen.Handler
	cpuid      xen.Handler
	descriptor xen.Handler
	debug      xen.Handler
	request    xen.Handler
	exit       xen.Handler
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
	return set(&l.breakpoint, "software breakpoints", h)
}

// OnSingleStep sets the handler for executed instructions of vCPUs that step.
// It returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnSingleStep(h xen.Handler) error { return set(&l.singleStep, "single steps", h) }

// OnMemAccess sets the handler for accesses that the vCPU's view forbids. It
// must let each one through or step over it: a plain Continue tries the access
// again, for ever. It returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnMemAccess(h xen.Handler) error { return set(&l.memAccess, "memory accesses", h) }

// OnMSR sets the handler for writes of the model-specific registers that are
// enabled at the monitor, see [xen.Monitor.EnableMSR]. It must not set RIP. It
// returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnMSR(h xen.Handler) error { return set(&l.msr, "writes of MSRs", h) }

// OnCPUID sets the handler for CPUID instructions, see [xen.Monitor.EnableCPUID].
// A plain Continue lets the guest have the answer that is in the request's
// registers. It returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnCPUID(h xen.Handler) error { return set(&l.cpuid, "CPUID instructions", h) }

// OnDescriptorAccess sets the handler for instructions that read or write a
// descriptor-table register, see [xen.Monitor.EnableDescriptorAccess]. It
// returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnDescriptorAccess(h xen.Handler) error {
	return set(&l.descriptor, "accesses to descriptor tables", h)
}

// OnDebugException sets the handler for debug exceptions, which the guest gets in
// any case, see [xen.Monitor.EnableDebugException]. The vCPU does not wait for
// it. It returns an error wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnDebugException(h xen.Handler) error { return set(&l.debug, "debug exceptions", h) }

// OnGuestRequest sets the handler for what the guest asks for itself, see
// [xen.Monitor.EnableGuestRequest]. It must not set RIP. It returns an error
// wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnGuestRequest(h xen.Handler) error { return set(&l.request, "guest requests", h) }

// OnVMExit sets the handler for exits to the hypervisor, see
// [xen.Monitor.EnableVMExit]. The vCPU does not wait for it. It returns an error
// wrapping [ErrTaken] if there is a handler.
func (l *Loop) OnVMExit(h xen.Handler) error { return set(&l.exit, "VM exits", h) }

func set(to *xen.Handler, what string, h xen.Handler) error {
	if *to != nil {
		return fmt.Errorf("%s: %w", what, ErrTaken)
	}
	*to = h
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
	case xen.ReasonMovToMSR:
		h = l.msr
	case xen.ReasonCPUID:
		h = l.cpuid
	case xen.ReasonDescriptorAccess:
		h = l.descriptor
	case xen.ReasonDebugException:
		h = l.debug
	case xen.ReasonGuestRequest:
		h = l.request
	case xen.ReasonVMExit:
		h = l.exit
	}
	if h == nil {
		return xen.Response{}
	}
	return h(r)
}
