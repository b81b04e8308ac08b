package conformance

import (
	"context"
	"errors"
	"sync"

	"github.com/govmi/govmi/xen"
)

var monitorChecks = []check{
	{name: "monitor comes and goes", run: monitorComesAndGoes},
	{name: "capabilities", run: capabilities},
	{name: "CR3 events", run: cr3Events},
	{name: "breakpoint events", run: breakpointEvents},
}

func monitorComesAndGoes(e *env) {
	state := func(want xen.MonitorState) {
		e.Helper()
		if s, err := e.dom.MonitorState(); s != want || err != nil {
			e.Errorf("monitor %v, %v, want %v", s, err, want)
		}
	}
	for range 3 {
		state(xen.MonitorFree)
		m, err := e.dom.OpenMonitor(nil)
		e.must(err)
		state(xen.MonitorAttached)
		_, err = e.dom.OpenMonitor(nil)
		e.want("second monitor", err, xen.ErrBusy)
		e.want("recovery under a live monitor", e.dom.RecoverMonitor(nil), xen.ErrBusy)
		e.must(errors.Join(m.EnableCtrlReg(xen.CR0, nil), m.EnableCtrlReg(xen.CR4, nil), m.EnableCtrlReg(xen.XCR0, nil)))
		e.must(errors.Join(m.EnableSoftwareBreakpoint(), m.EnableSoftwareBreakpoint())) // again is no error
		e.must(errors.Join(m.Close(), m.Close()))
		e.want("event after Close", m.EnableCtrlReg(xen.CR3, nil), xen.ErrClosed)
		e.want("Serve after Close", m.Serve(e.Context(), nil), xen.ErrClosed)
	}
	state(xen.MonitorFree)
	e.must(e.dom.RecoverMonitor(nil)) // with nothing to recover
	info, err := e.dom.Info()
	e.must(err)
	if info.Paused {
		e.Error("paused afterwards")
	}
}

func capabilities(e *env) {
	c, err := e.dom.Capabilities() // without a monitor
	e.must(err)
	if with, err := e.monitor().Capabilities(); with != c || err != nil {
		e.Errorf("%#x, with a monitor %#x, %v", c.Raw, with.Raw, err)
	}
	if !c.CtrlReg() || !c.SoftwareBreakpoint() || c.SingleStep() != e.target.VMX {
		e.Errorf("%#x", c.Raw)
	}
}

// serve has h answer events until stop.
func (e *env) serve(m *xen.Monitor, h xen.Handler) (stop func()) {
	ctx, cancel := context.WithCancel(e.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Serve(ctx, h); !errors.Is(err, context.Canceled) {
			e.Errorf("Serve: %v", err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func cr3Events(e *env) {
	const switches = 20
	m := e.monitor()
	events := 0
	stop := e.serve(m, func(r *xen.Request) xen.Response {
		if events++; r.Reason != xen.ReasonWriteCtrlReg || r.Ctrl.Reg != xen.CR3 || r.Ctrl.New == r.Ctrl.Old ||
			r.Regs.CR3 != r.Ctrl.Old || r.Flags&xen.FlagVCPUPaused == 0 || r.VCPU != 0 {
			e.Errorf("request %+v", *r)
		}
		return xen.Response{}
	})
	e.must(m.EnableCtrlReg(xen.CR3, nil))
	e.target.Guest.Switches(e.T, switches)
	e.must(m.DisableCtrlReg(xen.CR3))
	stop()
	if events < switches {
		e.Errorf("%d events, the guest wrote CR3 %d times at least", events, switches)
	}
}

func breakpointEvents(e *env) {
	const n = 10
	m := e.monitor()
	hits := 0
	stop := e.serve(m, func(r *xen.Request) xen.Response {
		hits++
		if r.Reason != xen.ReasonSoftwareBreakpoint || r.Breakpoint.InsnLength != 1 || r.Breakpoint.Type != 6 {
			e.Errorf("request %+v", *r)
		}
		if err := e.dom.InjectBreakpoint(r.VCPU, uint8(r.Breakpoint.InsnLength)); err != nil {
			e.Error(err)
		}
		return xen.Response{}
	})
	e.must(m.EnableSoftwareBreakpoint())
	e.target.Guest.Breakpoints(e.T, n)
	stop()
	if hits != n {
		e.Errorf("%d breakpoints seen, the guest executed %d", hits, n)
	}
}
