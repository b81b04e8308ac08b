package journal_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/mortal"
	"github.com/govmi/govmi/xen"
)

// die runs a program on the fake until it is killed before, or after, its n'th
// call, or to its end. What it was doing is left as it is.
func (v *victim) die(program func(device.Opener) error, n int, after bool) (killed bool, err error) {
	dead := make(chan struct{})
	var once sync.Once
	devices := mortal.New(v.x, func() {
		once.Do(func() { close(dead) })
		select {} // nothing of it runs any more, least of all what it deferred
	})
	devices.DieAt(n, after)
	ended := make(chan error, 1)
	go func() { ended <- program(devices) }()
	select {
	case <-dead:
		v.x.KillProcesses()
		return true, nil
	case err := <-ended:
		return false, err
	}
}

// calls is how many calls a program makes.
func calls(program func(device.Opener) error, x device.Opener) (int, error) {
	devices := mortal.New(x, nil)
	err := program(devices)
	return devices.Calls(), err
}

// recoverer is a program that recovers the guest.
func (v *victim) recoverer(devices device.Opener) error {
	h, err := xen.Open(&xen.Options{Devices: devices})
	if err != nil {
		return err
	}
	d, err := h.Domain(1)
	if err != nil {
		return err
	}
	if _, err := journal.Recover(d, &journal.RecoverOptions{Path: v.path}); err != nil {
		return err
	}
	return h.Close()
}

// A monitor is killed before and after each of its calls of the hypervisor, from
// attaching to detaching. After the recovery, which is killed once itself, the
// guest is as it was, and has not run a moment with an int3 that nobody handles;
// and the next monitor works.
func TestKilledAnywhere(t *testing.T) {
	for _, views := range []bool{false, true} {
		v := newVictim(t, views)
		live := func(v *victim) func(device.Opener) error {
			return func(d device.Opener) error { return v.live(d, views) }
		}
		before := v.look()
		n, err := calls(live(v), v.x)
		if err != nil {
			t.Fatal(err)
		}
		v.same(t, before)
		parked := 0
		for at := 1; at <= n; at++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("views %v, call %d, after %v", views, at, after), func(t *testing.T) {
					if kill(t, views, at, after, (at*7)%40+1, !after) {
						parked++
					}
				})
			}
		}
		t.Logf("views %v: %d calls, at %d kills of %d a vCPU waited", views, n, parked, 2*n)
		if parked == 0 {
			t.Error("no vCPU ever waited for the dead monitor's answer")
		}
	}
}

// kill is one of the kills, with a recovery that is killed at its call again.
func kill(t *testing.T, views bool, at int, after bool, again int, againAfter bool) (parked bool) {
	v := newVictim(t, views)
	before := v.look()
	killed, err := v.die(func(d device.Opener) error { return v.live(d, views) }, at, after)
	if !killed || err != nil {
		t.Fatalf("killed: %v, %v", killed, err)
	}
	parked = v.g.Waiting(0)+v.g.Waiting(1) > 0
	var pages [2][]byte
	for i := range pages {
		pages[i] = v.g.Page(uint64(text + i))
	}
	v.g.OnRun(func() {
		for i, page := range pages {
			if string(page) != before.Pages[uint64(text+i)] {
				t.Error("the guest runs with bytes that are not its own")
			}
		}
	})
	if _, err := v.die(v.recoverer, again, againAfter); err != nil {
		t.Fatal("the first recovery:", err)
	}
	if err := v.recoverer(v.x); err != nil {
		t.Fatal("the second recovery:", err)
	}
	v.same(t, before)
	d := v.open(t)
	if r, err := journal.Recover(d, &journal.RecoverOptions{Path: v.path}); err != nil || !r.Nothing() {
		t.Errorf("a third recovery: %+v, %v", r, err)
	}
	v.g.OnRun(nil)
	if err := v.live(v.x, views); err != nil {
		t.Error("the next monitor:", err)
	}
	v.same(t, before)
	return parked
}

// The recovery of a guest with all there is to recover is killed before and after
// each of its calls.
func TestRecoveryKilledAnywhere(t *testing.T) {
	for _, views := range []bool{false, true} {
		at := busiest(t, views)
		n := 0
		{
			v := newVictim(t, views)
			if _, err := v.die(func(d device.Opener) error { return v.live(d, views) }, at, false); err != nil {
				t.Fatal(err)
			}
			var err error
			if n, err = calls(v.recoverer, v.x); err != nil {
				t.Fatal(err)
			}
		}
		for again := 1; again <= n; again++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("views %v, call %d, after %v", views, again, after), func(t *testing.T) {
					if !kill(t, views, at, false, again, after) {
						t.Error("no vCPU waits")
					}
				})
			}
		}
		t.Logf("views %v: killed at call %d, recovered in %d", views, at, n)
	}
}

// busiest is the first call at which both vCPUs wait for an answer.
func busiest(t *testing.T, views bool) int {
	for at := 1; ; at++ {
		v := newVictim(t, views)
		killed, err := v.die(func(d device.Opener) error { return v.live(d, views) }, at, false)
		if !killed || err != nil {
			t.Fatalf("at no call do both vCPUs wait: %v", err)
		}
		if v.g.Waiting(0) > 0 && v.g.Waiting(1) > 0 {
			return at
		}
	}
}
