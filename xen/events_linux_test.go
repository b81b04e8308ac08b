package xen_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// enableAll turns on all events without parameters and those of some MSRs.
func enableAll(m *xen.Monitor) error {
	return errors.Join(
		m.EnableCPUID(), m.EnableDescriptorAccess(), m.EnableDebugException(), m.EnableGuestRequest(nil), m.EnableVMExit(),
		m.EnableSingleStep(), m.EnableMSR(0x10, nil), m.EnableMSR(0xc0000080, &xen.MSROptions{OnChangeOnly: true}),
	)
}

var simple = []uint32{
	abi.MonitorSingleStep, abi.MonitorSoftwareBreakpoint, abi.MonitorGuestRequest, abi.MonitorDebugException,
	abi.MonitorCPUID, abi.MonitorDescAccess, abi.MonitorVMExit,
}

// Every event is on, once, with its options, and off after Close.
func TestAllEvents(t *testing.T) {
	_, g, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	if err := errors.Join(enableAll(m), enableAll(m)); err != nil {
		t.Fatal(err)
	}
	for _, e := range simple {
		if !g.Event(e) {
			t.Errorf("event %d is off", e)
		}
	}
	if r := g.GuestRequest(); r != (abi.MonitorRequest{Sync: 1}) {
		t.Errorf("guest requests %+v", r)
	}
	if o, on := g.MSR(0x10); !on || o.OnChangeOnly != 0 {
		t.Errorf("MSR 0x10: %t, %+v", on, o)
	}
	if o, on := g.MSR(0xc0000080); !on || o.OnChangeOnly != 1 {
		t.Errorf("MSR 0xc0000080: %t, %+v", on, o)
	}
	// Other options need a moment in which the domain is paused.
	if err := errors.Join(
		m.EnableGuestRequest(&xen.GuestRequestOptions{Async: true, Userspace: true}), m.EnableMSR(0x10, &xen.MSROptions{OnChangeOnly: true}),
	); err != nil {
		t.Fatal(err)
	}
	if r := g.GuestRequest(); r != (abi.MonitorRequest{AllowUserspace: 1}) || g.Pauses() != 0 {
		t.Errorf("guest requests %+v, paused %d times", r, g.Pauses())
	}
	if o, _ := g.MSR(0x10); o.OnChangeOnly != 1 {
		t.Errorf("MSR 0x10: %+v", o)
	}
	if err := m.DisableMSR(0x10); err != nil {
		t.Error(err)
	}
	if _, on := g.MSR(0x10); on {
		t.Error("MSR 0x10 is on")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for _, e := range simple {
		if g.Event(e) {
			t.Errorf("event %d is on after Close", e)
		}
	}
	if err := errors.Join(m.EnableCPUID(), m.EnableMSR(0x10, nil)); !errors.Is(err, xen.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Close turns the events off itself, and does not leave it to the ring's end:
// up to 4.21 Xen does not survive every event without a ring.
func TestEventsOffBeforeTheRing(t *testing.T) {
	x, _, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	if err := enableAll(m); err != nil {
		t.Fatal(err)
	}
	x.Record(true)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	off, ring := 0, false
	for _, call := range x.Recorded() {
		switch {
		case strings.HasPrefix(call, "domctl monitor_op 1 "):
			off++
			if ring {
				t.Errorf("%s after the ring's end", call)
			}
		case call == "domctl vm_event_op 1":
			ring = true
		}
	}
	if want := len(simple) + 2 + 1; off != want || !ring { // two MSRs, CR3
		t.Errorf("%d events turned off, want %d", off, want)
	}
}

// Each call of enabling and closing fails once; the domain is as before.
func TestEventFaults(t *testing.T) {
	run := func(fail int) (calls int) {
		x, g, d := fakeGuest(t, vmx())
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatal(err)
		}
		before := x.Calls()
		x.FailCall(fail, syscall.EIO)
		errEnable := enableAll(m)
		errClose := m.Close()
		if fail > 0 && !errors.Is(errors.Join(errEnable, errClose), syscall.EIO) {
			t.Errorf("call %d: %v, %v", fail, errEnable, errClose)
		}
		calls = x.Calls() - before
		x.FailCall(0, 0)
		if g.Monitored() && !errors.Is(errClose, syscall.EIO) || g.Pauses() != 0 && !errors.Is(errClose, syscall.EIO) {
			t.Errorf("call %d: monitored %t, paused %d times", fail, g.Monitored(), g.Pauses())
		}
		return calls
	}
	n := run(0)
	if n < 2*len(simple) {
		t.Fatalf("%d calls", n)
	}
	for i := 1; i <= n; i++ {
		run(i)
	}
}

func TestEventsNotSupported(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *xenfake.Config
		do   func(*xen.Monitor) error
	}{
		{"VM exits on AMD", nil, (*xen.Monitor).EnableVMExit},
		{"VM exits before 4.17", &xenfake.Config{Major: 4, Minor: 16, Capabilities: 0x0f7f}, (*xen.Monitor).EnableVMExit},
		{"Xen's own MSR", nil, func(m *xen.Monitor) error { return m.EnableMSR(0x40000000, nil) }},
		{"MSR that can only be written", nil, func(m *xen.Monitor) error { return m.EnableMSR(0x80b, nil) }},
		{"MSR beyond the bitmap", nil, func(m *xen.Monitor) error { return m.EnableMSR(0x2000, nil) }},
		{"descriptors", &xenfake.Config{Capabilities: 0x1d7b}, (*xen.Monitor).EnableDescriptorAccess},
		{"control register 9", nil, func(m *xen.Monitor) error { return m.EnableCtrlReg(9, nil) }},
	} {
		_, _, d := fakeGuest(t, tt.cfg)
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.do(m); !errors.Is(err, xen.ErrNotSupported) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Close allows what was not allowed, before the ring goes that it takes for this.
func TestCloseRestoresAccess(t *testing.T) {
	x, g, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	if err := errors.Join(m.SetAccess(3, 2, xen.AccessR), m.SetAccess(9, 1, xen.AccessN), m.SetDefaultAccess(xen.AccessRX)); err != nil {
		t.Fatal(err)
	}
	if n, deflt := g.Restricted(); n != 3 || deflt != abi.AccessRX {
		t.Errorf("%d pages restricted, default %d", n, deflt)
	}
	x.Record(true)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if n, deflt := g.Restricted(); n != 0 || deflt != abi.AccessRWX {
		t.Errorf("after Close: %d pages restricted, default %d", n, deflt)
	}
	calls := x.Recorded()
	if access, ring := slices.Index(calls, "memory_op 21"), slices.Index(calls, "domctl vm_event_op 1"); access < 0 || ring < access {
		t.Errorf("calls %q", calls)
	}
}

// What each event reports, and that a plain continue gets behind CPUID and
// accesses to descriptor tables, whoever gives it: the fake tells if not.
func TestEventRequests(t *testing.T) {
	for _, version := range []uint32{abi.VMEventV6, abi.VMEventV7} {
		cfg := vmx()
		cfg.VMEvent = version
		_, g, d := fakeGuest(t, cfg)
		m := openMonitor(t, d)
		if err := errors.Join(enableAll(m), m.EnableMSR(0x1b, nil)); err != nil {
			t.Fatal(err)
		}
		words := func(w ...uint32) (u [32]byte) {
			for i, v := range w {
				binary.LittleEndian.PutUint32(u[4*i:], v)
			}
			return u
		}
		regs := abi.RegsV7{RegsHead: abi.RegsHead{RIP: 0x1000, RAX: 1, RBX: 2, RCX: 3, RDX: 4, R15: 5}}
		behind := regs.RegsHead
		behind.RIP += 2
		const cont, set, emul = uint32(abi.FlagVCPUPaused), uint32(abi.FlagSetRegisters), uint32(abi.FlagEmulate)
		for _, tt := range []struct {
			reason  uint32
			u       [32]byte
			want    xen.Request
			resp    xen.Response
			flags   uint32
			regs    abi.RegsHead
			refused bool
		}{
			{
				reason: abi.ReasonMovToMSR, u: words(0x1b, 0, 1, 2, 3, 4), flags: cont,
				want: xen.Request{Reason: xen.ReasonMovToMSR, MSR: xen.MSRWrite{Index: 0x1b, New: 2<<32 | 1, Old: 4<<32 | 3}},
			},
			{
				reason: abi.ReasonCPUID, u: words(2, 7, 1), flags: cont | set, regs: behind,
				want: xen.Request{Reason: xen.ReasonCPUID, CPUID: xen.CPUID{Leaf: 7, Subleaf: 1, InsnLength: 2}},
			},
			{ // refused, and answered all the same
				reason: abi.ReasonCPUID, u: words(2, 7, 1), flags: cont | set, regs: behind, refused: true,
				resp: xen.Response{Action: xen.EmulateInsn},
				want: xen.Request{Reason: xen.ReasonCPUID, CPUID: xen.CPUID{Leaf: 7, Subleaf: 1, InsnLength: 2}},
			},
			{
				reason: abi.ReasonDescriptorAccess, u: words(5, 0, 6, 7, 0x0102), flags: cont | emul,
				want: xen.Request{Reason: xen.ReasonDescriptorAccess, Descriptor: xen.DescriptorAccess{
					Table: xen.GDTR, Write: true, InsnInfo: 5, Qualification: 7<<32 | 6,
				}},
			},
			{
				reason: abi.ReasonDescriptorAccess, u: words(0, 0, 0, 0, 1), flags: cont | emul, resp: xen.Response{Action: xen.Emulate},
				want: xen.Request{Reason: xen.ReasonDescriptorAccess, Descriptor: xen.DescriptorAccess{Table: xen.IDTR}},
			},
			{
				reason: abi.ReasonMemAccess, u: words(9, 0, 8, 0, 7, 0, 2), flags: cont | emul, resp: xen.Response{Action: xen.Emulate},
				want: xen.Request{Reason: xen.ReasonMemAccess, Access: xen.MemAccess{GFN: 9, Offset: 8, Addr: 7, Write: true}},
			},
			{
				reason: abi.ReasonDebugException, u: words(9, 0, 0, 0, 1, 3), flags: cont,
				want: xen.Request{Reason: xen.ReasonDebugException, Debug: xen.DebugException{GFN: 9, InsnLength: 1, Type: 3}},
			},
			{reason: abi.ReasonGuestRequest, flags: cont, want: xen.Request{Reason: xen.ReasonGuestRequest}},
			{
				reason: abi.ReasonVMExit, u: words(10, 0, 11), flags: cont,
				want: xen.Request{Reason: xen.ReasonVMExit, Exit: xen.VMExit{Reason: 10, Qualification: 11}},
			},
			{ // in a kernel's half of addresses, and beside it
				reason: abi.ReasonMovToMSR, u: words(0x1b), flags: cont | set,
				resp: xen.Response{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 0xffff800000000000, RFLAGS: ^uint64(0)}},
				regs: abi.RegsHead{RIP: 0xffff800000000000, RFLAGS: 0x3d7fd7},
				want: xen.Request{Reason: xen.ReasonMovToMSR, MSR: xen.MSRWrite{Index: 0x1b}},
			},
			{
				reason: abi.ReasonMovToMSR, u: words(0x1b), flags: cont, refused: true,
				resp: xen.Response{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 0xffff7fffffffffff}},
				want: xen.Request{Reason: xen.ReasonMovToMSR, MSR: xen.MSRWrite{Index: 0x1b}},
			},
			{ // the same instruction again
				reason: abi.ReasonMovToMSR, u: words(0x1b), flags: cont, refused: true,
				resp: xen.Response{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 0x1000}},
				want: xen.Request{Reason: xen.ReasonMovToMSR, MSR: xen.MSRWrite{Index: 0x1b}},
			},
			{
				reason: abi.ReasonGuestRequest, flags: cont, refused: true,
				resp: xen.Response{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 0x1000}},
				want: xen.Request{Reason: xen.ReasonGuestRequest},
			},
			{ // no such emulation
				reason: abi.ReasonGuestRequest, flags: cont, resp: xen.Response{Action: xen.Emulate}, refused: true,
				want: xen.Request{Reason: xen.ReasonGuestRequest},
			},
			{
				reason: abi.ReasonMemAccess, flags: cont, resp: xen.Response{Action: xen.Emulate, Step: xen.FastStep}, refused: true,
				want: xen.Request{Reason: xen.ReasonMemAccess},
			},
		} {
			var saw xen.Request
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() {
				served <- m.Serve(ctx, func(r *xen.Request) xen.Response { saw = *r; return tt.resp })
			}()
			got, err := g.Trap(t.Context(), &xenfake.Event{Reason: tt.reason, Regs: regs, U: tt.u})
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if err := <-served; (errors.Is(err, context.Canceled)) == tt.refused {
				t.Errorf("v%d: reason %d: Serve: %v", version, tt.reason, err)
			}
			tt.want.Flags = xen.FlagVCPUPaused
			saw.Regs = xen.Registers{}
			if diff := cmp.Diff(tt.want, saw); diff != "" {
				t.Errorf("v%d: reason %d: (-want +got):\n%s", version, tt.reason, diff)
			}
			if got.Flags != tt.flags {
				t.Errorf("v%d: reason %d: flags %#x, want %#x", version, tt.reason, got.Flags, tt.flags)
			}
			got.Regs.DR6, got.Regs.DR7 = 0, 0
			if diff := cmp.Diff(tt.regs, got.Regs); diff != "" {
				t.Errorf("v%d: reason %d: registers (-want +got):\n%s", version, tt.reason, diff)
			}
		}
		// Also what waits in the ring when the monitor goes.
		for _, reason := range []uint32{abi.ReasonCPUID, abi.ReasonDescriptorAccess} {
			if err := g.Inject(&xenfake.Event{Reason: reason, VCPU: 1, Regs: regs}); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if g.Waiting(1) != 0 {
			t.Error("a vCPU waits")
		}
	}
}
