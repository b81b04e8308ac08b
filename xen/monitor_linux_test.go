package xen_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// fakeGuest returns a fake guest with two vCPUs, and the domain on it.
func fakeGuest(t testing.TB, cfg *xenfake.Config) (*xenfake.Xen, *xenfake.Domain, *xen.Domain) {
	t.Helper()
	x, h := openFake(t, cfg)
	g := x.AddDomain(&xenfake.DomainConfig{ID: 1, Name: "guest", VCPUs: 2, AltP2M: true})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	return x, g, d
}

// openMonitor opens a monitor with CR3 and breakpoint events on.
func openMonitor(t testing.TB, d *xen.Domain) *xen.Monitor {
	t.Helper()
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableSoftwareBreakpoint()); err != nil {
		t.Fatal(err)
	}
	return m
}

func cr3Event(vcpu uint32, value uint64) *xenfake.Event {
	return &xenfake.Event{
		Reason:  abi.ReasonWriteCtrlReg,
		VCPU:    vcpu,
		CtrlReg: abi.EventCtrlReg{Index: uint32(xen.CR3), New: value, Old: 0x1000},
	}
}

func breakEvent(vcpu uint32, rip uint64) *xenfake.Event {
	ev := &xenfake.Event{
		Reason:     abi.ReasonSoftwareBreakpoint,
		VCPU:       vcpu,
		Breakpoint: abi.EventDebug{GFN: 3, InsnLength: 1, Type: 6},
	}
	ev.Regs.RIP = rip
	return ev
}

func TestOpenMonitorSteps(t *testing.T) {
	x, g, d := fakeGuest(t, nil)
	x.Record(true)
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"domctl getdomaininfo",
		"domctl vm_event_op 2", // is there a ring?
		"domctl pausedomain",
		"hvm_op 1",
		"map foreign memory",
		"privcmd mmapbatch_v2",
		"domctl vm_event_op 0",
		"evtchn bind_interdomain",
		"evtchn bind_unbound_port",
		"evtchn bind_interdomain",
		"memory_op 1",
		"domctl unpausedomain",
	}
	if diff := cmp.Diff(want, x.Recorded()); diff != "" {
		t.Error(diff)
	}
	if g.RingPagePresent() || g.Pauses() != 0 || !g.Monitored() {
		t.Errorf("ring page in the guest: %v, pauses %d, monitored %v", g.RingPagePresent(), g.Pauses(), g.Monitored())
	}
	if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableSoftwareBreakpoint()); err != nil {
		t.Fatal(err)
	}
	x.Record(true)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	want = []string{
		"domctl pausedomain",
		"domctl monitor_op 1 event 0",
		"domctl monitor_op 1 event 3",
		"domctl vm_event_op 1",
		"evtchn unbind",
		"domctl unpausedomain",
	}
	if diff := cmp.Diff(want, x.Recorded()); diff != "" {
		t.Error(diff)
	}

	// The second time the page has to be made first; it is full of rubbish.
	x.Record(true)
	if m, err = d.OpenMonitor(nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(x.Recorded(), "\n"); !strings.Contains(got, "memory_op 6") {
		t.Errorf("no page populated:\n%s", got)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenMonitorErrors(t *testing.T) {
	noEvents := &xenfake.Config{VMEvent: 5}
	for _, tt := range []struct {
		name string
		cfg  *xenfake.Config
		dom  xenfake.DomainConfig
		is   error
		says string
	}{
		{"PV", nil, xenfake.DomainConfig{PV: true}, xen.ErrNotSupported, "PV guests cannot be monitored"},
		{"shadow", nil, xenfake.DomainConfig{Shadow: true}, xen.ErrNotSupported, "hap=1"},
		{"no page", nil, xenfake.DomainConfig{NoRingPage: true}, xen.ErrNotSupported, "no page for a monitor ring"},
		{"old vm_event", noEvents, xenfake.DomainConfig{}, xen.ErrVersion, "vm_event version 5"},
		{"no evtchn", &xenfake.Config{Missing: map[device.Kind]error{device.Evtchn: syscall.ENOENT}}, xenfake.DomainConfig{}, xen.ErrPlatform, "xen-evtchn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, h := openFake(t, tt.cfg)
			tt.dom.ID = 9
			g := x.AddDomain(&tt.dom)
			d, err := h.Domain(9)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.OpenMonitor(nil)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want %q in one line", err, tt.says)
			}
			if g.Pauses() != 0 || g.Monitored() {
				t.Errorf("left behind: pauses %d, monitored %v", g.Pauses(), g.Monitored())
			}
		})
	}
}

func TestSecondMonitor(t *testing.T) {
	x, g, d := fakeGuest(t, nil)
	openMonitor(t, d)
	calls := x.Calls()
	_, err := d.OpenMonitor(nil)
	if !errors.Is(err, xen.ErrBusy) || !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "another monitor") {
		t.Errorf("error %v", err)
	}
	if n := x.Calls() - calls; n != 2 {
		t.Errorf("%d calls to find out; the guest was disturbed", n)
	}
	// The same if RESUME cannot tell and ENABLE says it.
	x.FailCall(2, syscall.EPERM)
	if _, err := d.OpenMonitor(nil); !errors.Is(err, xen.ErrBusy) {
		t.Errorf("error %v", err)
	}
	if g.RingPagePresent() || g.Pauses() != 0 {
		t.Error("the guest is not as before")
	}
}

// Every call of OpenMonitor fails once; the guest must be as before.
func TestOpenMonitorFaults(t *testing.T) {
	for _, again := range []bool{false, true} {
		x, _, d := fakeGuest(t, nil)
		if again {
			openMonitor(t, d).Close()
		}
		before := x.Calls()
		openMonitor(t, d).Close()
		n := x.Calls() - before
		noticed := 0
		for k := 1; k <= n; k++ {
			x, g, d := fakeGuest(t, nil)
			if again {
				openMonitor(t, d).Close()
			}
			page := g.RingPagePresent()
			x.FailCall(k, syscall.EIO)
			m, err := d.OpenMonitor(nil)
			if err == nil {
				x.FailCall(0, 0)
				if err := m.Close(); err != nil {
					t.Errorf("call %d: %v", k, err)
				}
				continue
			}
			noticed++
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("call %d: %v", k, err)
			}
			if g.Pauses() != 0 && !errors.Is(err, syscall.EINVAL) {
				// Only a failed unpause may leave a pause, and it is retried.
				t.Errorf("call %d: %d pauses left", k, g.Pauses())
			}
			if g.Monitored() {
				t.Errorf("call %d: the ring is still there", k)
			}
			if g.RingPagePresent() && !page {
				t.Errorf("call %d: a page was left in the guest", k)
			}
		}
		if noticed < 7 {
			t.Errorf("%d faults noticed", noticed)
		}
	}
}

// Every call of Close fails once, with requests in the ring: it goes on, and
// the guest runs afterwards.
func TestCloseFaults(t *testing.T) {
	names := func() []string {
		x, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		inject(t, g, cr3Event(0, 0x2000), breakEvent(1, 0x1234))
		x.Record(true)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		return x.Recorded()
	}()
	for k, name := range names {
		t.Run(fmt.Sprintf("%d %s", k, name), func(t *testing.T) {
			x, h := openFake(t, nil)
			g := x.AddDomain(&xenfake.DomainConfig{ID: 1, VCPUs: 2})
			d, err := h.Domain(1)
			if err != nil {
				t.Fatal(err)
			}
			m, err := d.OpenMonitor(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableSoftwareBreakpoint()); err != nil {
				t.Fatal(err)
			}
			inject(t, g, cr3Event(0, 0x2000), breakEvent(1, 0x1234))
			x.FailCall(k+1, syscall.EIO)
			err = m.Close()
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("Close: %v", err)
			}
			if again := m.Close(); again != err {
				t.Errorf("second Close: %v", again)
			}
			if g.Waiting(0) != 0 || g.Waiting(1) != 0 {
				t.Error("a vCPU still waits")
			}
			if g.Pauses() != 0 && name != "domctl unpausedomain" {
				t.Errorf("%d pauses left", g.Pauses())
			}
			if g.Monitored() && name != "domctl vm_event_op 1" {
				t.Error("the ring is still there")
			}
			if g.Monitored() {
				if _, on := g.CtrlReg(uint8(xen.CR3)); on || g.Breakpoints() {
					t.Error("events are still on")
				}
			}
		})
	}
}

func inject(t testing.TB, g *xenfake.Domain, events ...*xenfake.Event) {
	t.Helper()
	for _, ev := range events {
		if err := g.Inject(ev); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseDeadDomain(t *testing.T) {
	for name, die := range map[string]func(*xenfake.Domain){
		"dying": (*xenfake.Domain).Kill,
		"gone":  (*xenfake.Domain).Remove,
	} {
		_, g, d := fakeGuest(t, nil)
		m := openMonitor(t, d)
		inject(t, g, cr3Event(0, 0x2000))
		die(g)
		if err := m.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEvents(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()

	check := func(want abi.MonitorCtrlReg, on bool) {
		t.Helper()
		got, is := g.CtrlReg(uint8(xen.CR3))
		if is != on || on && got != want {
			t.Errorf("CR3 events %v %+v, want %v %+v", is, got, on, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(m.EnableCtrlReg(xen.CR3, nil))
	check(abi.MonitorCtrlReg{Index: 1, Sync: 1}, true)
	must(m.EnableCtrlReg(xen.CR3, &xen.CtrlRegOptions{Async: true, OnChangeOnly: true, IgnoreBits: 0x1fff}))
	check(abi.MonitorCtrlReg{Index: 1, OnChangeOnly: 1, Bitmask: 0x1fff}, true)
	must(m.DisableCtrlReg(xen.CR3))
	must(m.DisableCtrlReg(xen.CR3))
	check(abi.MonitorCtrlReg{}, false)
	must(m.EnableSoftwareBreakpoint())
	must(m.EnableSoftwareBreakpoint())
	if !g.Breakpoints() {
		t.Error("breakpoint events are off")
	}
	must(m.DisableSoftwareBreakpoint())
	must(m.DisableSoftwareBreakpoint())
	if g.Breakpoints() {
		t.Error("breakpoint events are on")
	}
	if err := m.EnableCtrlReg(4, nil); !errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("control register 4: %v", err)
	}
	must(m.DisableCtrlReg(4))
	c, err := m.Capabilities()
	if c != (xen.Capabilities{Raw: 0x1f7b}) || err != nil || !c.CtrlReg() || !c.SoftwareBreakpoint() || c.SingleStep() {
		t.Errorf("Capabilities() = %+v, %v", c, err)
	}
	if g.Pauses() != 0 {
		t.Errorf("%d pauses left", g.Pauses())
	}
	if m.Domain() != d {
		t.Error("Domain() is another")
	}
}

func TestEventNotSupported(t *testing.T) {
	_, _, d := fakeGuest(t, &xenfake.Config{Capabilities: 1})
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.EnableSoftwareBreakpoint(); !errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("error %v", err)
	}
}

func TestDrain(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	if n, err := m.Drain(); n != 0 || err != nil {
		t.Errorf("Drain() = %d, %v", n, err)
	}
	inject(t, g, cr3Event(0, 0x2000), breakEvent(1, 0x1234))
	if n, err := m.Drain(); n != 2 || err != nil {
		t.Errorf("Drain() = %d, %v", n, err)
	}
	for i, r := range g.Responses() {
		if r.Flags != abi.FlagVCPUPaused || r.VCPU != uint32(i) {
			t.Errorf("response %+v", r)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.Drain(); !errors.Is(err, xen.ErrClosed) {
		t.Errorf("Drain after Close: %v", err)
	}
	if err := m.Serve(context.Background(), func(*xen.Request) xen.Response { return xen.Response{} }); !errors.Is(err, xen.ErrClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
}
