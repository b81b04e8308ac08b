package xen_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// vmx is a hypervisor on an Intel processor.
func vmx() *xenfake.Config { return &xenfake.Config{Capabilities: 0x1f7f, AltP2M: true} }

// viewOn turns altp2m on and makes a view.
func viewOn(t testing.TB, d *xen.Domain) xen.View {
	t.Helper()
	if err := d.SetAltP2M(true); err != nil {
		t.Fatal(err)
	}
	v, err := d.CreateView()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestResponses(t *testing.T) {
	const paused = abi.FlagVCPUPaused
	_, g, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	view := viewOn(t, d)
	if err := m.EnableSingleStep(); err != nil {
		t.Fatal(err)
	}
	stepEvent := &xenfake.Event{Reason: abi.ReasonSingleStep, Step: abi.EventSingleStep{GFN: 9}}
	regs := &xen.Registers{RIP: 5}
	for _, tt := range []struct {
		name     string
		ev       *xenfake.Event
		resp     xen.Response
		flags    uint32
		view     uint16 // of the response
		step     uint16 // its view after the step
		now      uint16 // the vCPU's
		stepping bool
	}{
		{"switch", breakEvent(0, 1), xen.Response{Switch: true, View: view}, paused | abi.FlagAlternateP2M, 1, 0, 1, false},
		{"switch back", cr3Event(0, 1), xen.Response{Switch: true}, paused | abi.FlagAlternateP2M, 0, 0, 0, false},
		{"view without a switch", cr3Event(0, 1), xen.Response{View: view}, paused, 0, 0, 0, false},
		{"no such view", cr3Event(0, 1), xen.Response{Switch: true, View: 7}, paused | abi.FlagAlternateP2M, 7, 0, 0, false},
		{"fast step", breakEvent(0, 1), xen.Response{Step: xen.FastStep, Switch: true, StepView: view},
			paused | abi.FlagAlternateP2M | abi.FlagFastSingleStep, 0, 1, 1, false},
		{"fast step where it is", breakEvent(0, 1), xen.Response{Step: xen.FastStep}, paused | abi.FlagFastSingleStep, 0, 0, 0, false},
		{"fast step with registers", breakEvent(0, 1), xen.Response{Action: xen.SetRegisters, Regs: regs, Step: xen.FastStep, StepView: view},
			paused | abi.FlagSetRegisters | abi.FlagFastSingleStep, 0, 1, 1, false},
		{"emulate and switch", breakEvent(0, 1), xen.Response{Action: xen.EmulateInsn, Switch: true},
			paused | abi.FlagEmulate | abi.FlagSetEmulInsnData | abi.FlagAlternateP2M, 0, 0, 0, false},
		{"step", breakEvent(0, 1), xen.Response{Step: xen.ToggleStep}, paused | abi.FlagToggleSingleStep, 0, 0, 0, true},
		{"stepped", stepEvent, xen.Response{Step: xen.ToggleStep, Switch: true, View: view},
			paused | abi.FlagToggleSingleStep | abi.FlagAlternateP2M, 1, 0, 1, false},
	} {
		stop := serve(t, m, func(r *xen.Request) xen.Response {
			if r.Reason == xen.ReasonSingleStep && r.Step.GFN != 9 {
				t.Errorf("%s: request %+v", tt.name, *r)
			}
			return tt.resp
		})
		got, err := g.Trap(t.Context(), tt.ev)
		if err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != context.Canceled {
			t.Errorf("%s: Serve: %v", tt.name, err)
		}
		if got.Flags != tt.flags || got.View != tt.view || got.Reason != tt.ev.Reason {
			t.Errorf("%s: response %+v, want flags %#x, view %d", tt.name, got, tt.flags, tt.view)
		}
		if tt.flags&abi.FlagFastSingleStep != 0 && got.U != [32]byte{0: byte(tt.step)} {
			t.Errorf("%s: fast step %v, want view %d", tt.name, got.U, tt.step)
		}
		if v, s := g.View(0), g.Stepping(0); v != tt.now || s != tt.stepping {
			t.Errorf("%s: then in view %d, stepping %v; want %d, %v", tt.name, v, s, tt.now, tt.stepping)
		}
	}
}

// What Xen cannot do is a plain continue and an error of Serve.
func TestResponsesRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		step bool // single-step events are on
		resp xen.Response
	}{
		{"fast step and emulation", true, xen.Response{Action: xen.EmulateInsn, Step: xen.FastStep}},
		{"unknown step", true, xen.Response{Step: 3, Switch: true, View: 1}},
		{"toggle unseen", false, xen.Response{Step: xen.ToggleStep, Switch: true, View: 1}},
		{"fast step unseen", false, xen.Response{Step: xen.FastStep, Switch: true, View: 1}},
		{"registers missing", true, xen.Response{Action: xen.SetRegisters, Switch: true, View: 1}},
	} {
		_, g, d := fakeGuest(t, vmx())
		m := openMonitor(t, d)
		viewOn(t, d)
		if tt.step {
			if err := m.EnableSingleStep(); err != nil {
				t.Fatal(err)
			}
		}
		stop := serve(t, m, func(*xen.Request) xen.Response { return tt.resp })
		got, err := g.Trap(t.Context(), breakEvent(0, 1))
		if err != nil {
			t.Fatal(err)
		}
		if got.Flags != abi.FlagVCPUPaused || got.View != 0 {
			t.Errorf("%s: response %+v", tt.name, got)
		}
		if err := stop(); err == nil || !strings.Contains(err.Error(), "does not fit the request") {
			t.Errorf("%s: Serve: %v", tt.name, err)
		}
	}
}

func TestSingleStepEvents(t *testing.T) {
	_, g, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(m.EnableSingleStep())
	must(m.EnableSingleStep())
	if !g.SingleSteps() {
		t.Error("single-step events are off")
	}
	// An answer that comes after the end must not start what it wants to end.
	g.SetStepping(0, true)
	inject(t, g, &xenfake.Event{Reason: abi.ReasonSingleStep})
	must(m.DisableSingleStep())
	must(m.DisableSingleStep())
	if g.SingleSteps() || g.Stepping(0) || g.Pauses() != 0 {
		t.Errorf("events %v, stepping %v, %d pauses", g.SingleSteps(), g.Stepping(0), g.Pauses())
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Serve(ctx, func(*xen.Request) xen.Response { cancel(); return xen.Response{Step: xen.ToggleStep} })
	if err != context.Canceled || g.Stepping(0) {
		t.Errorf("Serve: %v, stepping %v", err, g.Stepping(0))
	}

	g.SetStepping(1, true)
	must(d.StopSingleStep(1))
	if g.Stepping(1) {
		t.Error("still stepping")
	}
	if err := d.StopSingleStep(2); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "no such vCPU") {
		t.Errorf("vCPU 2: %v", err)
	}
}

func TestSingleStepWithoutMTF(t *testing.T) {
	x, _, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	if err := m.EnableSingleStep(); !errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("EnableSingleStep: %v", err)
	}
	if err := d.StopSingleStep(0); !errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("StopSingleStep: %v", err)
	}
	x.Record(true)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if calls := strings.Join(x.Recorded(), "\n"); strings.Contains(calls, "debug_op") {
		t.Errorf("stepping stopped that never was:\n%s", calls)
	}
}

// Close leaves no vCPU stepping, whatever the last answers were.
func TestCloseStopsSteps(t *testing.T) {
	_, g, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	if err := m.EnableSingleStep(); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, m, func(*xen.Request) xen.Response { return xen.Response{Step: xen.ToggleStep} })
	for v := range uint32(2) {
		if _, err := g.Trap(t.Context(), breakEvent(v, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if !g.Stepping(0) || !g.Stepping(1) {
		t.Fatal("not stepping")
	}
	stop()
	inject(t, g, &xenfake.Event{Reason: abi.ReasonSingleStep, VCPU: 1})
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if g.Stepping(0) || g.Stepping(1) || g.SingleSteps() || g.Waiting(1) != 0 {
		t.Errorf("stepping %v %v, events %v, waiting %d", g.Stepping(0), g.Stepping(1), g.SingleSteps(), g.Waiting(1))
	}
	for name, err := range map[string]error{
		"single step": m.EnableSingleStep(),
		"breakpoint":  m.EnableSoftwareBreakpoint(),
		"CR3":         m.EnableCtrlReg(xen.CR3, nil),
		"filter":      m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch}),
		"values":      m.AddCR3(0x1000),
	} {
		if !errors.Is(err, xen.ErrClosed) {
			t.Errorf("%s events after Close: %v", name, err)
		}
	}
}
