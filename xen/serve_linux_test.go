package xen_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// serve runs Serve until stop, which returns its error.
func serve(t testing.TB, m *xen.Monitor, h xen.Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	errc := make(chan error, 1)
	go func() { errc <- m.Serve(ctx, h) }()
	return sync.OnceValue(func() error { cancel(); return <-errc })
}

func TestServe(t *testing.T) {
	for _, version := range []uint32{abi.VMEventV6, abi.VMEventV7} {
		_, g, d := fakeGuest(t, &xenfake.Config{VMEvent: version})
		m := openMonitor(t, d)
		insn := [16]byte{0x55, 1: 0x90, 15: 0xff}
		regs := xen.Registers{RAX: 1, RCX: 2, RDX: 3, RBX: 4, RSP: 5, RBP: 6, RSI: 7, RDI: 8, R8: 9, R15: 10, RIP: 11, RFLAGS: 12, CR3: 13}
		var seen []xen.Request
		stop := serve(t, m, func(r *xen.Request) xen.Response {
			seen = append(seen, *r)
			switch {
			case r.Reason == xen.ReasonSoftwareBreakpoint && r.Regs.RIP == 0x1000:
				return xen.Response{Action: xen.EmulateInsn, Insn: insn}
			case r.Reason == xen.ReasonSoftwareBreakpoint:
				return xen.Response{Action: xen.SetRegisters, Regs: &regs}
			}
			return xen.Response{}
		})

		trap := func(ev *xenfake.Event) xenfake.Response {
			t.Helper()
			r, err := g.Trap(t.Context(), ev)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		// The request claims a view; echoing that flag would switch to it.
		ev := cr3Event(1, 0x2abc)
		ev.Flags, ev.View = abi.FlagAlternateP2M, 3
		got := trap(ev)
		if got.Flags != abi.FlagVCPUPaused || got.View != 0 || got.Reason != ev.Reason || got.VCPU != 1 || got.U == [32]byte{} {
			t.Errorf("v%d: response to CR3: %+v", version, got)
		}
		got = trap(breakEvent(0, 0x1000))
		if got.Flags != abi.FlagVCPUPaused|abi.FlagEmulate|abi.FlagSetEmulInsnData || got.Insn != insn {
			t.Errorf("v%d: response to the breakpoint: %+v", version, got)
		}
		got = trap(breakEvent(0, 0x2000))
		// Of RFLAGS, what is reserved is not what was asked for.
		want := abi.RegsHead{RAX: 1, RCX: 2, RDX: 3, RBX: 4, RSP: 5, RBP: 6, RSI: 7, RDI: 8, R8: 9, R15: 10, RIP: 11, RFLAGS: 6}
		got.Regs.CR3 = 0 // whatever the slot held: Xen does not take it
		if got.Flags != abi.FlagVCPUPaused|abi.FlagSetRegisters {
			t.Errorf("v%d: flags %#x", version, got.Flags)
		}
		if diff := cmp.Diff(want, got.Regs); diff != "" {
			t.Errorf("v%d: registers: %s", version, diff)
		}
		got = trap(&xenfake.Event{Reason: 12, VCPU: 1, U: [32]byte{5: 7}})
		if got.Flags != abi.FlagVCPUPaused || got.Reason != 12 || got.U != [32]byte{5: 7} {
			t.Errorf("v%d: response to another reason: %+v", version, got)
		}
		inject(t, g, &xenfake.Event{Reason: 12, VCPU: 1, Async: true})
		trap(cr3Event(0, 0x3000)) // answered after it

		if err := stop(); err != context.Canceled {
			t.Errorf("v%d: Serve: %v", version, err)
		}
		for _, r := range g.Responses() {
			if r.Reason == 12 && r.Flags != 0 {
				t.Errorf("v%d: response to the asynchronous event: %+v", version, r)
			}
		}
		wantSeen := []xen.Request{
			{Reason: xen.ReasonWriteCtrlReg, VCPU: 1, Flags: xen.FlagVCPUPaused | xen.FlagAlternateP2M, View: 3,
				Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, New: 0x2abc, Old: 0x1000}},
			{Reason: xen.ReasonSoftwareBreakpoint, Flags: xen.FlagVCPUPaused, Regs: xen.Registers{RIP: 0x1000},
				Breakpoint: xen.SoftwareBreakpoint{GFN: 3, InsnLength: 1, Type: 6}},
			{Reason: xen.ReasonSoftwareBreakpoint, Flags: xen.FlagVCPUPaused, Regs: xen.Registers{RIP: 0x2000},
				Breakpoint: xen.SoftwareBreakpoint{GFN: 3, InsnLength: 1, Type: 6}},
			{Reason: 12, VCPU: 1, Flags: xen.FlagVCPUPaused},
			{Reason: 12, VCPU: 1},
			{Reason: xen.ReasonWriteCtrlReg, Flags: xen.FlagVCPUPaused, Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, New: 0x3000, Old: 0x1000}},
		}
		if diff := cmp.Diff(wantSeen, seen); diff != "" {
			t.Errorf("v%d: requests: %s", version, diff)
		}
	}
}

// Many times around the ring, from two vCPUs at once.
func TestServeExact(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	next := [2]uint64{1, 1}
	stop := serve(t, m, func(r *xen.Request) xen.Response {
		if r.Ctrl.New != next[r.VCPU] {
			t.Errorf("vCPU %d: event %d, want %d", r.VCPU, r.Ctrl.New, next[r.VCPU])
		}
		next[r.VCPU]++
		return xen.Response{}
	})
	const n = 2000
	var wg sync.WaitGroup
	for v := range uint32(2) {
		wg.Go(func() {
			for i := range uint64(n) {
				if _, err := g.Trap(t.Context(), cr3Event(v, i+1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := stop(); err != context.Canceled {
		t.Error(err)
	}
	if next != [2]uint64{n + 1, n + 1} {
		t.Errorf("events seen: %v", next)
	}
}

// Requests that arrive together share a notification, and a full ring is
// answered in full.
func TestServeBatch(t *testing.T) {
	x, g, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	for i := range uint32(abi.RingSlots) {
		inject(t, g, cr3Event(i%2, uint64(i)))
	}
	if err := g.Inject(cr3Event(0, 9)); err != xenfake.ErrRingFull {
		t.Fatalf("the ring has room: %v", err)
	}
	x.Record(true)
	n := 0
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Serve(ctx, func(*xen.Request) xen.Response {
		if n++; n == abi.RingSlots {
			cancel()
		}
		return xen.Response{}
	})
	if err != context.Canceled || n != abi.RingSlots || g.Waiting(0) != 0 || g.Waiting(1) != 0 {
		t.Errorf("Serve: %v, %d events, waiting %d, %d", err, n, g.Waiting(0), g.Waiting(1))
	}
	if diff := cmp.Diff([]string{"evtchn notify"}, x.Recorded()); diff != "" {
		t.Error(diff)
	}
}

func TestServeEnds(t *testing.T) {
	plain := func(*xen.Request) xen.Response { return xen.Response{} }
	t.Run("context done before", func(t *testing.T) {
		_, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Serve(ctx, plain); err != context.Canceled {
			t.Errorf("Serve: %v", err)
		}
		// The wake-up of that one must not end the next.
		stop := serve(t, m, plain)
		if _, err := g.Trap(t.Context(), cr3Event(0, 1)); err != nil {
			t.Error(err)
		}
		if err := stop(); err != context.Canceled {
			t.Errorf("second Serve: %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		_, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		stop := serve(t, m, plain)
		if _, err := g.Trap(t.Context(), cr3Event(0, 1)); err != nil { // now it runs
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := stop(); !errors.Is(err, xen.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Run("second Serve", func(t *testing.T) {
		_, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		stop := serve(t, m, plain)
		if _, err := g.Trap(t.Context(), cr3Event(0, 1)); err != nil {
			t.Fatal(err)
		}
		if err := m.Serve(t.Context(), plain); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("second Serve: %v", err)
		}
		if _, err := m.Drain(); err == nil {
			t.Error("Drain during Serve")
		}
		stop()
	})
	for name, die := range map[string]func(*xenfake.Domain){
		"domain dying": (*xenfake.Domain).Kill,
		"domain gone":  (*xenfake.Domain).Remove,
	} {
		t.Run(name, func(t *testing.T) {
			_, g, d := fakeGuest(t, nil)
			m := openMonitor(t, d)
			die(g)
			if err := m.Serve(t.Context(), plain); !errors.Is(err, xen.ErrNoDomain) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Run("corrupt ring", func(t *testing.T) {
		_, g, d := fakeGuest(t, nil)
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatal(err)
		}
		g.CorruptRing()
		if err := m.Serve(t.Context(), plain); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		if err := m.Close(); err == nil {
			t.Error("Close says nothing of the corrupt ring")
		}
		if g.Monitored() || g.Pauses() != 0 {
			t.Error("Close did not go on")
		}
	})
	t.Run("notify fails", func(t *testing.T) {
		x, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		inject(t, g, cr3Event(0, 1))
		x.FailCall(1, syscall.EIO)
		if err := m.Serve(t.Context(), plain); !errors.Is(err, syscall.EIO) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestServeBadResponse(t *testing.T) {
	for name, resp := range map[string]xen.Response{
		"emulate a CR write": {Action: xen.EmulateInsn},
		"no registers":       {Action: xen.SetRegisters},
		"unknown action":     {Action: 200},
	} {
		_, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		inject(t, g, cr3Event(1, 0x2000))
		err := m.Serve(t.Context(), func(*xen.Request) xen.Response { return resp })
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: Serve: %v", name, err)
		}
		got := g.Responses()
		if len(got) != 1 || got[0].Flags != abi.FlagVCPUPaused || got[0].VCPU != 1 {
			t.Errorf("%s: responses %+v", name, got)
		}
	}
}

func TestServePanic(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	inject(t, g, breakEvent(0, 1), breakEvent(1, 2), breakEvent(0, 3))
	func() {
		defer func() {
			if p := recover(); p != "handler" {
				t.Errorf("recovered %v", p)
			}
		}()
		m.Serve(t.Context(), func(r *xen.Request) xen.Response {
			if r.VCPU == 1 {
				panic("handler")
			}
			return xen.Response{Action: xen.EmulateInsn}
		})
		t.Error("Serve returned")
	}()
	got := g.Responses()
	if len(got) != 2 || got[0].Flags&abi.FlagEmulate == 0 || got[1].Flags != abi.FlagVCPUPaused {
		t.Errorf("responses %+v", got)
	}
	// The third request is still there for the next one.
	if n, err := m.Drain(); n != 1 || err != nil {
		t.Errorf("Drain() = %d, %v", n, err)
	}
}

// Goexit, as by t.FailNow in a handler, leaves as a panic does.
func TestServeGoexit(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	inject(t, g, cr3Event(0, 1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Serve(t.Context(), func(*xen.Request) xen.Response { runtime.Goexit(); return xen.Response{} })
	}()
	<-done
	if g.Waiting(0) != 0 {
		t.Error("the vCPU still waits")
	}
}
