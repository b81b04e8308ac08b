//go:build lab

package breakpoint_test

import (
	"errors"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// A guest that the toolstack pauses goes on where it was, with its breakpoints. One
// that reboots stands still, and the monitor waits, until the toolstack destroys it,
// as xl does to make it anew with another number: then the loop ends with
// ErrNoDomain, and nothing that the monitor held keeps the domain.
func TestLabLifeCycle(t *testing.T) {
	ctx := t.Context()
	how := strategies()[0]
	g := labtest.StartGuest(t, guest.Spec{AltP2M: labtest.VMX()})
	busy := g.Start(ctx, "exec workload busy -kinds getppid -spin 10000")
	busy.WaitLine(ctx, regexp.MustCompile(`busy ready pid=`))
	k, err := openTarget(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	s, err := k.attach(how)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var hits atomic.Int64
	done := make(chan error, 1)
	go func() { done <- s.loop.Run(ctx) }()
	if err := s.insert(getppid, func(*xen.Request) xen.Response { hits.Add(1); return xen.Response{} }); err != nil {
		t.Fatal(err)
	}
	more := func(n int64) bool {
		t.Helper()
		for from, end := hits.Load(), time.Now().Add(time.Minute); hits.Load() < from+n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	if !more(10) {
		t.Fatal("no hits")
	}
	for range max(1, labtest.Count(10)) {
		if err := g.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // for the hit that is on its way
		before := hits.Load()
		time.Sleep(3 * time.Second) // longer than the monitor waits before it looks for the domain
		if n := hits.Load() - before; n != 0 {
			t.Errorf("%d hits of a paused guest", n)
		}
		g.Unpause(ctx)
		if !more(10) {
			t.Fatal("no hits after the pause")
		}
	}
	// The kernel reboots, whatever its processes do.
	if _, err := g.Guest.Start(ctx, "echo b >/proc/sysrq-trigger"); err != nil {
		t.Logf("the guest goes down in mid-command: %v", err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		info, err := k.dom.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Shutdown {
			if info.ShutdownReason != 1 {
				t.Errorf("shut down for reason %d, want 1, a reboot", info.ShutdownReason)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("the guest does not reboot")
		}
	}
	select {
	case err := <-done:
		t.Fatalf("the loop ended while the domain is there: %v", err)
	case <-time.After(3 * time.Second):
	}
	g.Destroy(ctx)
	if err := <-done; !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("loop: %v, want %v", err, xen.ErrNoDomain)
	} else {
		t.Log(err)
	}
	if err := errors.Join(s.Close(), k.mem.Close()); err != nil {
		t.Error(err)
	}
	vanish(t, g.DomID())
	t.Logf("%d hits, %v", hits.Load(), how)
}

// vanish waits until nothing is left of a domain: one whose pages somebody has
// mapped stays, dying.
func vanish(t *testing.T, id xen.DomID) {
	t.Helper()
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.Domain(id)
	for end := time.Now().Add(30 * time.Second); err == nil; time.Sleep(50 * time.Millisecond) {
		var info xen.DomainInfo
		if info, err = d.Info(); err == nil && time.Now().After(end) {
			t.Fatalf("domain %d is still there, dying %v, with %d pages", id, info.Dying, info.Pages)
		}
	}
	if !errors.Is(err, xen.ErrNoDomain) {
		t.Error(err)
	}
}
