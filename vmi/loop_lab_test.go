//go:build lab

package vmi_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// patience bounds what should take a moment.
const patience = time.Minute

// watched is a guest whose events a loop hands on.
type watched struct {
	guest *labtest.Guest
	mon   *xen.Monitor
	loop  *vmi.Loop
}

// watch attaches to the shared guest. stop ends the loop, which set has given its
// handlers, and the monitor.
func watch(t *testing.T, set func(w *watched) error) (w *watched, stop func()) {
	t.Helper()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.LookupDomain(g.Name())
	if err != nil {
		t.Fatal(errors.Join(err, h.Close()))
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(errors.Join(err, h.Close()))
	}
	w = &watched{guest: g, mon: m, loop: vmi.NewLoop(m)}
	err = set(w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.loop.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error("the loop:", err)
		}
		if err := errors.Join(m.Close(), h.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	if err != nil {
		t.Fatal(err)
	}
	return w, stop
}

// The guest says how often it has done what causes an event. Where other programs do
// the same, and the Go program that says so as it starts, the place in the code tells
// those apart.
func TestLabLoopEvents(t *testing.T) {
	labtest.Intact(t, labtest.SharedGuest(t, labtest.Ordinary()))
	n := labtest.Count(10000)
	for _, tc := range []struct {
		name    string
		command string // of the workload
		vmx     string // why it runs on Intel only
		set     func(w *watched, h xen.Handler) error
		all     bool // nobody else does it
	}{
		{name: "CPUID", command: "cpuid",
			set: func(w *watched, h xen.Handler) error { return errors.Join(w.loop.OnCPUID(h), w.mon.EnableCPUID()) }},
		{name: "guest requests", command: "request", all: true,
			set: func(w *watched, h xen.Handler) error {
				return errors.Join(w.loop.OnGuestRequest(h), w.mon.EnableGuestRequest(&xen.GuestRequestOptions{Userspace: true}))
			}},
		{name: "MSR writes", command: "msr", all: true, vmx: "the guest has no MSR there that a program can have written",
			set: func(w *watched, h xen.Handler) error {
				return errors.Join(w.loop.OnMSR(h), w.mon.EnableMSR(0x140, nil))
			}},
		{name: "descriptor tables", command: "sidt",
			set: func(w *watched, h xen.Handler) error {
				return errors.Join(w.loop.OnDescriptorAccess(h), w.mon.EnableDescriptorAccess())
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.vmx != "" && !labtest.VMX() {
				t.Skip(tc.vmx)
			}
			at := map[uint64]int{}
			w, stop := watch(t, func(w *watched) error {
				return tc.set(w, func(r *xen.Request) xen.Response {
					at[r.Regs.RIP]++
					return xen.Response{}
				})
			})
			out, status := w.guest.Exec(t.Context(), fmt.Sprintf("workload %s -n %d", tc.command, n))
			stop()
			if status != 0 || !strings.Contains(out, fmt.Sprintf("%s n=%d ", tc.command, n)) {
				t.Fatalf("the guest says, with status %d: %q", status, out)
			}
			most, total := 0, 0
			for _, c := range at {
				most, total = max(most, c), total+c
			}
			want := n
			if m := regexp.MustCompile(` switches=(\d+)`).FindStringSubmatch(out); m != nil {
				// Each time that the process did not run there may be two more.
				switches, err := strconv.Atoi(m[1])
				if err != nil {
					t.Fatal(err)
				}
				for k := 0; k < switches && want < most; k++ {
					want += 2
				}
			}
			t.Logf("%d events of %d at one place, %d in all", most, want, total)
			if most != want || tc.all && total != want {
				t.Errorf("%d events at one place and %d in all, the guest counts %d", most, total, want)
			}
		})
	}
}

// Events by the million, that come faster than they are answered, are neither lost
// nor cost the monitor memory.
func TestLabLoopMany(t *testing.T) {
	n := 50_000
	if labtest.Soak() {
		n = 1_000_000
	}
	var events atomic.Int64
	w, stop := watch(t, func(w *watched) error {
		return errors.Join(
			w.loop.OnGuestRequest(func(*xen.Request) xen.Response { events.Add(1); return xen.Response{} }),
			w.mon.EnableGuestRequest(&xen.GuestRequestOptions{Userspace: true, Async: true}))
	})
	made := 0
	request := func(n int) {
		t.Helper()
		out := w.guest.MustExec(t.Context(), fmt.Sprintf("workload request -n %d", n))
		if want := fmt.Sprintf("request n=%d result=0 ", n); !strings.HasPrefix(out, want) {
			t.Errorf("the guest says %q, want %q", out, want)
		}
		made += n
		for end := time.Now().Add(patience); events.Load() < int64(made) && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	request(1000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	request(n)
	took := time.Since(begin)
	runtime.GC()
	runtime.ReadMemStats(&after)
	stop()
	grown, allocs := int64(after.HeapAlloc)-int64(before.HeapAlloc), after.Mallocs-before.Mallocs
	t.Logf("%d events, %.0f in a second, the heap grew by %d bytes, %d allocations", events.Load(), float64(n)/took.Seconds(), grown, allocs)
	if events.Load() != int64(made) {
		t.Errorf("%d events, the guest made %d", events.Load(), made)
	}
	// What waits for the guest's console allocates some; an event does not.
	if grown > 256<<10 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if allocs > uint64(n/10) {
		t.Errorf("%d allocations for %d events", allocs, n)
	}
}
