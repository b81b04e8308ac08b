//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// What an event may cost the guest, and how fast memory is to be mapped, measured
// by plain C programs on Xen's own libraries. Measured are 0.96 of much memory at a
// time and more page by page. Of events that the guest does not wait for, eight fill
// the ring and are answered together: 1.08 to 1.09. In few of either what the runtime
// does besides shows.
const (
	mostOfC         = 1.1
	mostOfCAsyncFew = 1.15
	leastOfC        = 0.95
	leastOfCFew     = 0.94
)

// An event costs the guest hardly more than with a monitor in C: one that it waits
// for, and one of many that it does not wait for. By the guest's clock, which counts
// instructions in the VMX lane.
func TestLabYardstickRing(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("the SVM lane's clock is this machine's, and tells nothing of cost")
	}
	g := sharedGuest(t)
	n := labtest.Count(50000)
	requests := func() (us int) {
		out := g.MustExec(t.Context(), fmt.Sprintf("workload request -n %d", n))
		m := regexp.MustCompile(fmt.Sprintf(`^request n=%d result=0 us=(\d+)\n`, n)).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("the guest says %q", out)
		}
		us, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return us
	}
	for _, mode := range []string{"requests", "async"} {
		most := mostOfC
		if mode == "async" && !labtest.Soak() {
			most = mostOfCAsyncFew
		}
		stop := labtest.StartC(t, fmt.Sprint(g.DomID()), mode)
		c := requests()
		if got := stop(); got != n {
			t.Errorf("%s: the C monitor saw %d events of %d", mode, got, n)
		}
		ours, got := serveRequests(t, lookup(t, g), mode == "async", n, requests)
		if got != int64(n) {
			t.Errorf("%s: %d events of %d", mode, got, n)
		}
		ratio := float64(ours) / float64(c)
		t.Logf("%d events, %s: %.1f us of the guest's time each, the C monitor's %.1f, ratio %.3f", n, mode,
			float64(ours)/float64(n), float64(c)/float64(n), ratio)
		if ratio > most {
			t.Errorf("%s: %.3f times the C monitor's cost, want at most %v", mode, ratio, most)
		}
	}
}

// serveRequests monitors what the guest asks for itself while do runs, and until n
// were seen.
func serveRequests(t *testing.T, d *xen.Domain, async bool, n int, do func() int) (us int, events int64) {
	t.Helper()
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := m.EnableGuestRequest(&xen.GuestRequestOptions{Userspace: true, Async: async}); err != nil {
		t.Fatal(err)
	}
	var seen atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- m.Serve(ctx, func(*xen.Request) xen.Response { seen.Add(1); return xen.Response{} })
	}()
	us = do()
	for end := time.Now().Add(10 * time.Second); seen.Load() < int64(n) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	return us, seen.Load()
}

// A guest's memory is mapped as fast as by a program in C: in pieces as large as
// there are, and page by page.
func TestLabYardstickMap(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("the SVM lane's clock is this machine's, and tells nothing of cost")
	}
	g := sharedGuest(t)
	d := lookup(t, g)
	const first = 0x1000 // 16 MiB, where the guest has memory
	for _, tc := range []struct{ frames, rounds int }{{2048, labtest.Count(200)}, {1, labtest.Count(5000)}} {
		out, err := exec.Command("mapframes", fmt.Sprint(g.DomID()), fmt.Sprint(first), fmt.Sprint(tc.frames), fmt.Sprint(tc.rounds)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var c int64
		if _, err := fmt.Sscanf(string(out), "us=%d\n", &c); err != nil || c == 0 {
			t.Fatalf("mapframes says %q", out)
		}
		gfns := make([]xen.GFN, tc.frames)
		for i := range gfns {
			gfns[i] = xen.GFN(first + i)
		}
		sum := 0
		round := func() {
			f, err := d.MapFrames(gfns, false)
			if err != nil {
				t.Fatal(err)
			}
			for i := range f.Len() {
				b, err := f.Frame(i)
				if err != nil {
					t.Fatal(err)
				}
				sum += int(b[0])
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		round() // in which Go's monitor thread sees that there is nothing else to do
		begin := time.Now()
		for range tc.rounds {
			round()
		}
		ours := time.Since(begin).Microseconds()
		rate := float64(c) / float64(ours)
		t.Logf("%d frames at a time: %.2f us each, the C program's %.2f, rate %.3f (%d)", tc.frames,
			float64(ours)/float64(tc.frames*tc.rounds), float64(c)/float64(tc.frames*tc.rounds), rate, sum)
		least := leastOfC
		if !labtest.Soak() {
			least = leastOfCFew
		}
		if rate < least {
			t.Errorf("%d frames at a time: %.3f of the C program's rate, want at least %v", tc.frames, rate, least)
		}
	}
}
