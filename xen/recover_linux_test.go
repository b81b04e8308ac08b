package xen_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// killed is a domain whose monitor was killed with all its traces left, and a
// new connection to it.
type killed struct {
	x *xenfake.Xen
	g *xenfake.Domain
	d *xen.Domain
}

func killMonitor(t *testing.T, vcpus int) killed {
	t.Helper()
	cfg := vmx()
	cfg.CR3Filter = true
	x := xenfake.New(t, cfg)
	g := x.AddDomain(&xenfake.DomainConfig{ID: 1, VCPUs: vcpus, AltP2M: true})
	h, err := xen.Open(&xen.Options{Devices: x})
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
	viewOn(t, d)
	if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableSoftwareBreakpoint(), m.EnableSingleStep()); err != nil {
		t.Fatal(err)
	}
	// All but the first vCPU hit something, the last one twice.
	for v := 1; v < vcpus; v++ {
		inject(t, g, breakEvent(uint32(v), 1))
	}
	if vcpus > 1 && vcpus < abi.RingSlots {
		inject(t, g, cr3Event(uint32(vcpus-1), 1))
	}
	g.SetStepping(vcpus-1, true)
	if err := errors.Join(d.Pause(), d.Pause()); err != nil {
		t.Fatal(err)
	}
	x.KillProcesses()

	h, err = xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		for _, l := range x.Leaks() {
			t.Error("leak:", l)
		}
	})
	if d, err = h.Domain(1); err != nil {
		t.Fatal(err)
	}
	return killed{x, g, d}
}

func (k killed) check(t *testing.T, pauses int) {
	t.Helper()
	for v := range k.vcpus() {
		if k.g.Waiting(v) != 0 || k.g.Stepping(v) {
			t.Errorf("vCPU %d: waits for %d, stepping %v", v, k.g.Waiting(v), k.g.Stepping(v))
		}
	}
	if k.g.Monitored() || k.g.Breakpoints() || k.g.SingleSteps() || k.g.Pauses() != pauses {
		t.Errorf("ring %v, breakpoints %v, single steps %v, pauses %d, want %d",
			k.g.Monitored(), k.g.Breakpoints(), k.g.SingleSteps(), k.g.Pauses(), pauses)
	}
}

func (k killed) vcpus() int {
	info, err := k.d.Info()
	if err != nil {
		return 0
	}
	return int(info.MaxVCPU) + 1
}

func TestRecoverMonitor(t *testing.T) {
	for _, vcpus := range []int{1, 2, 4, 9} {
		k := killMonitor(t, vcpus)
		if _, err := k.d.OpenMonitor(nil); !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "RecoverMonitor") {
			t.Errorf("%d vCPUs: OpenMonitor: %v", vcpus, err)
		}
		for range 2 {
			if err := k.d.RecoverMonitor(nil); err != nil {
				t.Errorf("%d vCPUs: %v", vcpus, err)
			}
			k.check(t, 0)
		}
		if !k.g.AltP2M() {
			t.Error("altp2m is off")
		}
		m := openMonitor(t, k.d)
		inject(t, k.g, cr3Event(0, 1))
		if n, err := m.Drain(); n != 1 || err != nil {
			t.Errorf("the next monitor's Drain: %d, %v", n, err)
		}
	}
}

func TestRecoverOptions(t *testing.T) {
	k := killMonitor(t, 2)
	if err := k.d.RecoverMonitor(&xen.RecoverOptions{AltP2MOff: true, KeepPaused: true}); err != nil {
		t.Error(err)
	}
	k.check(t, 2)
	if k.g.AltP2M() {
		t.Error("altp2m is on")
	}
}

// A domain with nothing to recover, where altp2m cannot be, is as before.
func TestRecoverNothing(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	page := g.RingPagePresent()
	if err := d.RecoverMonitor(&xen.RecoverOptions{AltP2MOff: true}); err != nil {
		t.Error(err)
	}
	if g.Monitored() || g.Pauses() != 0 || g.RingPagePresent() != page {
		t.Errorf("ring %v, pauses %d, page %v", g.Monitored(), g.Pauses(), g.RingPagePresent())
	}
	openMonitor(t, d).Close()
}

// A live monitor is left alone, be it this process's or another's.
func TestRecoverLive(t *testing.T) {
	x, g, d := fakeGuest(t, nil)
	m := openMonitor(t, d)
	inject(t, g, cr3Event(0, 1))
	other, err := xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	od, err := other.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	calls := x.Calls()
	err = od.RecoverMonitor(nil)
	if !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "its monitor is alive") {
		t.Errorf("error %v", err)
	}
	if n := x.Calls() - calls; n != 1 { // for the domain's state
		t.Errorf("%d calls", n)
	}
	if n, err := m.Drain(); n != 1 || err != nil {
		t.Errorf("the live monitor's Drain: %d, %v", n, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := od.RecoverMonitor(nil); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestRecoverHopeless(t *testing.T) {
	k := killMonitor(t, 2)
	k.g.SetWaitQueue(true)
	err := k.d.RecoverMonitor(nil)
	if !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "destroy the domain") {
		t.Errorf("error %v", err)
	}
	if k.g.Pauses() != 2 {
		t.Errorf("%d pauses, want those of before", k.g.Pauses())
	}
}

// Every call fails once; a second try repairs what the first left.
func TestRecoverFaults(t *testing.T) {
	k := killMonitor(t, 2)
	before := k.x.Calls()
	if err := k.d.RecoverMonitor(nil); err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for n := range k.x.Calls() - before {
		k := killMonitor(t, 2)
		k.x.FailCall(n+1, syscall.EIO)
		if err := k.d.RecoverMonitor(nil); errors.Is(err, syscall.EIO) {
			noticed++
		} else if err != nil {
			t.Errorf("call %d: %v", n+1, err)
		}
		if err := k.d.RecoverMonitor(nil); err != nil {
			t.Errorf("call %d, second try: %v", n+1, err)
		}
		k.check(t, 0)
	}
	if noticed < 10 {
		t.Errorf("%d faults noticed", noticed)
	}
}

// Restore comes before anything is released, Reclaim when the ring is gone; both
// with the domain paused.
func TestRecoverHooks(t *testing.T) {
	k := killMonitor(t, 2)
	pauses := k.g.Pauses()
	failed := errors.New("not yet")
	err := k.d.RecoverMonitor(&xen.RecoverOptions{
		Restore: func() error { return failed },
		Reclaim: func() error { t.Error("Reclaim after Restore failed"); return nil },
	})
	if !errors.Is(err, failed) || !k.g.Monitored() || k.g.Waiting(1) == 0 || k.g.Pauses() != pauses {
		t.Errorf("a Restore that fails: %v; ring %v, vCPU 1 waits for %d, %d pauses", err, k.g.Monitored(), k.g.Waiting(1), k.g.Pauses())
	}
	var order []string
	err = k.d.RecoverMonitor(&xen.RecoverOptions{
		AltP2MOff: true,
		Restore: func() error {
			if order = append(order, "restore"); k.g.Pauses() <= pauses || !k.g.Monitored() || k.g.Waiting(1) == 0 {
				t.Errorf("Restore: %d pauses, ring %v, vCPU 1 waits for %d", k.g.Pauses(), k.g.Monitored(), k.g.Waiting(1))
			}
			return nil
		},
		Reclaim: func() error {
			if order = append(order, "reclaim"); k.g.Pauses() <= pauses || k.g.Monitored() || k.g.Waiting(1) != 0 || k.g.AltP2M() {
				t.Errorf("Reclaim: %d pauses, ring %v, vCPU 1 waits for %d, altp2m %v", k.g.Pauses(), k.g.Monitored(), k.g.Waiting(1), k.g.AltP2M())
			}
			return nil
		},
	})
	if err != nil || len(order) != 2 || order[0] != "restore" {
		t.Errorf("%v, %v", order, err)
	}
	k.check(t, 0)
}
