package vmi

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/xen"
)

// script is an EventSource that replays requests and keeps the answers.
type script struct {
	requests []xen.Request
	answers  []xen.Response
}

func (s *script) Serve(ctx context.Context, h xen.Handler) error {
	for i := range s.requests {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.answers = append(s.answers, h(&s.requests[i]))
	}
	return nil
}

func TestLoopDispatch(t *testing.T) {
	src := &script{requests: []xen.Request{
		{Reason: xen.ReasonSoftwareBreakpoint, VCPU: 1},
		{Reason: xen.ReasonWriteCtrlReg, Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, New: 0x1000}},
		{Reason: xen.ReasonWriteCtrlReg, Ctrl: xen.CtrlRegWrite{Reg: xen.CR4}},
		{Reason: xen.ReasonWriteCtrlReg, Ctrl: xen.CtrlRegWrite{Reg: 77}},
		{Reason: 99},
		{Reason: xen.ReasonSingleStep},
		{Reason: xen.ReasonMemAccess},
	}}
	l := NewLoop(src)
	var saw []string
	if err := l.OnSoftwareBreakpoint(func(*xen.Request) xen.Response {
		saw = append(saw, "int3")
		return xen.Response{Action: xen.EmulateInsn}
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.OnSingleStep(func(*xen.Request) xen.Response {
		saw = append(saw, "step")
		return xen.Response{Step: xen.ToggleStep}
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.OnMemAccess(func(*xen.Request) xen.Response {
		saw = append(saw, "access")
		return xen.Response{Switch: true}
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.OnCtrlReg(xen.CR3, func(*xen.Request) xen.Response {
		saw = append(saw, "cr3")
		return xen.Response{}
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"int3", "cr3", "step", "access"}, saw); diff != "" {
		t.Errorf("handlers called (-want +got):\n%s", diff)
	}
	want := []xen.Response{{Action: xen.EmulateInsn}, {}, {}, {}, {}, {Step: xen.ToggleStep}, {Switch: true}}
	if diff := cmp.Diff(want, src.answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestLoopOneHandlerPerEvent(t *testing.T) {
	l := NewLoop(&script{})
	h := func(*xen.Request) xen.Response { return xen.Response{} }
	if err := errors.Join(l.OnSoftwareBreakpoint(h), l.OnSingleStep(h), l.OnMemAccess(h), l.OnCtrlReg(xen.CR3, h)); err != nil {
		t.Fatal(err)
	}
	if err := l.OnSoftwareBreakpoint(h); !errors.Is(err, ErrTaken) {
		t.Errorf("second breakpoint handler: %v", err)
	}
	if err := l.OnSingleStep(h); !errors.Is(err, ErrTaken) {
		t.Errorf("second single-step handler: %v", err)
	}
	if err := l.OnMemAccess(h); !errors.Is(err, ErrTaken) {
		t.Errorf("second handler of memory accesses: %v", err)
	}
	if err := l.OnCtrlReg(xen.CR3, h); !errors.Is(err, ErrTaken) {
		t.Errorf("second CR3 handler: %v", err)
	}
	if err := l.OnCtrlReg(9, h); err == nil {
		t.Error("control register 9 accepted")
	}
}

// The kinds of events that programs watch for their own sake.
func TestLoopKinds(t *testing.T) {
	kinds := []struct {
		name   string
		reason xen.Reason
		on     func(*Loop, xen.Handler) error
	}{
		{"MSR", xen.ReasonMovToMSR, (*Loop).OnMSR},
		{"CPUID", xen.ReasonCPUID, (*Loop).OnCPUID},
		{"descriptor", xen.ReasonDescriptorAccess, (*Loop).OnDescriptorAccess},
		{"debug", xen.ReasonDebugException, (*Loop).OnDebugException},
		{"request", xen.ReasonGuestRequest, (*Loop).OnGuestRequest},
		{"VM exit", xen.ReasonVMExit, (*Loop).OnVMExit},
	}
	src := new(script)
	for _, k := range kinds {
		src.requests = append(src.requests, xen.Request{Reason: k.reason})
	}
	l := NewLoop(src)
	var saw, want []string
	for _, k := range kinds {
		h := func(r *xen.Request) xen.Response {
			if r.Reason != k.reason {
				t.Errorf("%s: reason %d", k.name, r.Reason)
			}
			saw = append(saw, k.name)
			return xen.Response{View: xen.View(k.reason)}
		}
		if err := k.on(l, h); err != nil {
			t.Error(err)
		}
		if err := k.on(l, h); !errors.Is(err, ErrTaken) {
			t.Errorf("%s, a second time: %v", k.name, err)
		}
		want = append(want, k.name)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, saw); diff != "" {
		t.Errorf("handlers called (-want +got):\n%s", diff)
	}
	for i, a := range src.answers {
		if a != (xen.Response{View: xen.View(kinds[i].reason)}) {
			t.Errorf("%s: answer %+v", kinds[i].name, a)
		}
	}
}
