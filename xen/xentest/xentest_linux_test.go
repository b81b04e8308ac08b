package xentest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// guest makes a hypervisor with one guest that may have views.
func guest(t *testing.T, cfg *xentest.Config) (*xentest.Domain, *xen.Domain) {
	t.Helper()
	x := xentest.New(cfg)
	g := x.AddDomain(&xentest.DomainConfig{ID: 1, Name: "guest", AltP2M: true})
	h, err := xen.Open(x.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), x.Close(), x.Close()); err != nil {
			t.Error(err)
		}
	})
	d, err := h.LookupDomain("guest")
	if err != nil {
		t.Fatal(err)
	}
	return g, d
}

// registers have another value in each field that both sources carry.
func registers() xen.Registers {
	r := xen.Registers{
		RAX: 1, RCX: 2, RDX: 3, RBX: 4, RSP: 5, RBP: 6, RSI: 7, RDI: 8,
		R8: 9, R9: 10, R10: 11, R11: 12, R12: 13, R13: 14, R14: 15, R15: 16, RIP: 17, RFLAGS: 18,
		CR0: 19, CR2: 20, CR3: 21, CR4: 22, DR6: 23, DR7: 24, ShadowGS: 25, EFER: 26, STAR: 27, LSTAR: 28,
		SysenterCS: 29, SysenterESP: 30, SysenterEIP: 31, GDTRBase: 32, GDTRLimit: 33,
	}
	for i, s := range []*xen.Segment{&r.CS, &r.SS, &r.DS, &r.ES, &r.FS, &r.GS} {
		*s = xen.Segment{Selector: uint16(40 + i), Access: 0x893, Limit: 0x12345fff, Base: uint64(50 + i)}
	}
	r.FS.Access, r.FS.Limit = 0x093, 0x12345 // in bytes
	return r
}

// What the test says of a vCPU and an event is what package xen makes of it.
func TestRoundTrip(t *testing.T) {
	for _, minor := range []int{14, 17, 22} {
		g, d := guest(t, &xentest.Config{Version: xen.Version{Major: 4, Minor: minor}, Intel: true, AltP2M: true})
		want := registers()
		g.SetRegisters(0, &want)
		got, err := d.Registers(0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("4.%d: registers (-want +got):\n%s", minor, diff)
		}
		if err := d.SetAltP2M(true); err != nil {
			t.Fatal(err)
		}
		view, err := d.CreateView()
		if err != nil {
			t.Fatal(err)
		}
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableSoftwareBreakpoint(), m.EnableSingleStep()); err != nil {
			t.Fatal(err)
		}
		regs := registers()
		general := xen.Registers{
			RAX: 1, RCX: 2, RDX: 3, RBX: 4, RSP: 5, RBP: 6, RSI: 7, RDI: 8,
			R8: 9, R9: 10, R10: 11, R11: 12, R12: 13, R13: 14, R14: 15, R15: 16, RIP: 17, RFLAGS: 18,
		}
		for _, tt := range []struct {
			req  xen.Request
			resp xen.Response
			want xen.Response
		}{
			{req: xen.Request{Reason: xen.ReasonWriteCtrlReg, Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, New: 8, Old: 9}}},
			{
				req:  xen.Request{Reason: xen.ReasonSoftwareBreakpoint, Breakpoint: xen.SoftwareBreakpoint{GFN: 7, InsnLength: 2, Type: 6}},
				resp: xen.Response{Action: xen.EmulateInsn, Insn: [16]byte{1, 15: 2}},
				want: xen.Response{Action: xen.EmulateInsn, Insn: [16]byte{1, 15: 2}},
			},
			{
				req:  xen.Request{Reason: xen.ReasonSingleStep, Step: xen.SingleStep{GFN: 12}, View: view, Flags: xen.FlagAlternateP2M},
				resp: xen.Response{Action: xen.SetRegisters, Regs: &regs},
				want: xen.Response{Action: xen.SetRegisters, Regs: &general},
			},
			{
				req: xen.Request{Reason: xen.ReasonMemAccess, Access: xen.MemAccess{
					GFN: 1, Offset: 2, Addr: 3, AddrValid: true, Read: true, Write: true, Execute: true,
				}},
				resp: xen.Response{Step: xen.FastStep, StepView: view},
				want: xen.Response{Step: xen.FastStep, StepView: view},
			},
			{
				req:  xen.Request{Reason: xen.ReasonMemAccess, Access: xen.MemAccess{GFN: 1, Write: true}},
				resp: xen.Response{Step: xen.ToggleStep, Switch: true, View: view},
				want: xen.Response{Step: xen.ToggleStep, Switch: true, View: view},
			},
		} {
			tt.req.Regs = registers()
			sent := tt.req
			var saw xen.Request
			answer := trap(t, m, g, &tt.req, func(r *xen.Request) xen.Response { saw = *r; return tt.resp })
			sent.Flags |= xen.FlagVCPUPaused
			if diff := cmp.Diff(sent, saw); diff != "" {
				t.Errorf("4.%d: reason %d (-sent +seen):\n%s", minor, sent.Reason, diff)
			}
			if diff := cmp.Diff(&xentest.Answer{Response: tt.want}, answer); diff != "" {
				t.Errorf("4.%d: reason %d: answer (-want +got):\n%s", minor, sent.Reason, diff)
			}
		}
		if !g.Stepping(0) || g.View(0) != view || !g.Monitored() {
			t.Errorf("4.%d: stepping %t, view %d, monitored %t", minor, g.Stepping(0), g.View(0), g.Monitored())
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func trap(t *testing.T, m *xen.Monitor, g *xentest.Domain, r *xen.Request, h xen.Handler) *xentest.Answer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Serve(ctx, h); err != context.Canceled {
			t.Errorf("Serve: %v", err)
		}
	})
	a, err := g.Trap(t.Context(), r)
	stop()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Events that are sent wait in the ring; what is not enabled makes none.
func TestSend(t *testing.T) {
	g, d := guest(t, nil)
	r := &xen.Request{Reason: xen.ReasonWriteCtrlReg, Flags: xen.FlagVCPUPaused}
	if err := g.Send(r); !errors.Is(err, xentest.ErrNoMonitor) {
		t.Errorf("without a monitor: %v", err)
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Send(r); !errors.Is(err, xentest.ErrDisabled) {
		t.Errorf("not enabled: %v", err)
	}
	if err := m.EnableCtrlReg(xen.CR0, nil); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for ; g.Send(r) == nil; sent++ {
	}
	if err := g.Send(r); !errors.Is(err, xentest.ErrRingFull) || sent != 8 || g.Waiting(0) != 8 {
		t.Errorf("%v after %d, %d waiting", err, sent, g.Waiting(0))
	}
	if n, err := m.Drain(); n != 8 || err != nil {
		t.Errorf("Drain: %d, %v", n, err)
	}
	if a := g.Answers(); len(a) != 8 || g.Waiting(0) != 0 {
		t.Errorf("%d answers, %d waiting", len(a), g.Waiting(0))
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// What a killed monitor leaves can be recovered from.
func TestKillProcesses(t *testing.T) {
	x := xentest.New(nil)
	g := x.AddDomain(&xentest.DomainConfig{ID: 1})
	h, err := xen.Open(x.Options())
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.EnableSoftwareBreakpoint(); err != nil {
		t.Fatal(err)
	}
	if err := g.Send(&xen.Request{Reason: xen.ReasonSoftwareBreakpoint, Flags: xen.FlagVCPUPaused}); err != nil {
		t.Fatal(err)
	}
	x.KillProcesses()
	h, err = xen.Open(x.Options())
	if err != nil {
		t.Fatal(err)
	}
	if d, err = h.Domain(1); err != nil {
		t.Fatal(err)
	}
	if s, err := d.MonitorState(); s != xen.MonitorLeftBehind || err != nil {
		t.Errorf("monitor %v, %v", s, err)
	}
	if err := d.RecoverMonitor(nil); err != nil {
		t.Error(err)
	}
	if g.Waiting(0) != 0 || g.Monitored() || g.Pauses() != 0 {
		t.Errorf("after recovery: %d waiting, monitored %t, paused %d times", g.Waiting(0), g.Monitored(), g.Pauses())
	}
	if err := x.Close(); err == nil || !strings.Contains(err.Error(), "left behind: 2 open devices") {
		t.Errorf("Close: %v", err)
	}
}
