package xen

import (
	"errors"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
)

func costFixture(tb testing.TB) (*Monitor, func()) {
	x := xenfake.New(tb, &xenfake.Config{Capabilities: 0x1f7f, AltP2M: true})
	g := x.AddDomain(&xenfake.DomainConfig{ID: 1, AltP2M: true})
	h, err := Open(&Options{Devices: x})
	if err != nil {
		tb.Fatal(err)
	}
	d, err := h.Domain(1)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(m.EnableCtrlReg(CR3, nil), m.EnableSoftwareBreakpoint(), m.EnableSingleStep(), d.SetAltP2M(true)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(m.Close(), h.Close()); err != nil {
			tb.Error(err)
		}
	})

	events := []*xenfake.Event{
		{Reason: abi.ReasonWriteCtrlReg, CtrlReg: abi.EventCtrlReg{Index: uint32(CR3), New: 1}},
		{Reason: abi.ReasonSoftwareBreakpoint},
		{Reason: abi.ReasonSingleStep},
		{Reason: abi.ReasonSoftwareBreakpoint, View: 1},
	}
	regs := new(Registers)
	handler := func(r *Request) Response {
		switch {
		case r.Reason == ReasonSoftwareBreakpoint && r.View == 1:
			return Response{Step: FastStep, Switch: true, StepView: 1}
		case r.Reason == ReasonSoftwareBreakpoint:
			return Response{Action: EmulateInsn, Switch: true}
		case r.Reason == ReasonSingleStep:
			return Response{Step: ToggleStep, Switch: true, View: 1}
		}
		*regs = r.Regs
		regs.RIP += 3 // mov to CR3
		return Response{Action: SetRegisters, Regs: regs}
	}
	i := 0
	// What Serve does from the wake-up on.
	return m, func() {
		i++
		if err := g.Inject(events[i%len(events)]); err != nil {
			tb.Fatal(err)
		}
		if ok, err := m.tr.(*ringTransport).ch.Wait(); !ok || err != nil {
			tb.Fatal(ok, err)
		}
		if n, err := m.tr.answer(handler); n != 1 || err != nil {
			tb.Fatal(n, err)
		}
		if i%1024 == 0 {
			g.Forget()
		}
	}
}

func TestServeCost(t *testing.T) {
	m, event := costFixture(t)
	event()
	ch := m.tr.(*ringTransport).ch
	hypercalls, notifies := m.dom.hyp.conn.Ioctls(), ch.Ioctls()
	const runs = 1000
	if n := testing.AllocsPerRun(runs, event); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
	if n := m.dom.hyp.conn.Ioctls() - hypercalls; n != 0 {
		t.Errorf("%d hypercalls", n)
	}
	if n := ch.Ioctls() - notifies; n != runs+1 { // AllocsPerRun warms up once
		t.Errorf("%d notifications for %d events", n, runs+1)
	}
}

func BenchmarkEvent(b *testing.B) {
	_, event := costFixture(b)
	b.ReportAllocs()
	for b.Loop() {
		event()
	}
}
