//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// filterMonitor returns a monitor on a Xen that has the filter, else it skips
// the test.
func filterMonitor(t *testing.T, d *xen.Domain) (*xen.Monitor, xen.CR3FilterInfo) {
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
	info, err := m.CR3Filter()
	if errors.Is(err, xen.ErrNotSupported) && !labtest.PatchedXen(t) {
		t.Skipf("this Xen is not built with patches/xen: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m, info
}

// A Xen without the patches says so, whatever is asked for.
func TestLabCR3FilterStock(t *testing.T) {
	d := lookup(t, sharedGuest(t))
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.CR3Filter()
	if err == nil {
		t.Skip("this Xen is built with patches/xen")
	}
	t.Log(err)
	_, lerr := m.CR3Values()
	for name, err := range map[string]error{
		"query": err,
		"set":   m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch}),
		"off":   m.SetCR3Filter(xen.CR3FilterOptions{}),
		"add":   m.AddCR3(0x1000), "remove": m.RemoveCR3(0x1000), "list": lerr, "clear": m.ClearCR3(),
	} {
		if !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "patches/xen") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every operation, with good arguments and with bad ones.
func TestLabCR3FilterOps(t *testing.T) {
	d := lookup(t, sharedGuest(t))
	m, none := filterMonitor(t, d)
	want := xen.CR3FilterInfo{Version: 1, MaxEntries: 256, TargetListAvailable: none.TargetListAvailable}
	check := func(when string) {
		t.Helper()
		got, err := m.CR3Filter()
		got.Forwarded, got.Dropped = 0, 0
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, %s", when, err, diff)
		}
	}
	check("at first")
	match := xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0x1fff}
	with := func(change func(*xen.CR3FilterOptions)) xen.CR3FilterOptions {
		o := match
		change(&o)
		return o
	}
	for _, tt := range []struct {
		name string
		err  error
		is   error
	}{
		{"add without a filter", m.AddCR3(0x4000), xen.ErrNotFound},
		{"clear without a filter", m.ClearCR3(), xen.ErrNotFound},
		{"set", m.SetCR3Filter(match), nil},
		{"unknown mode", m.SetCR3Filter(xen.CR3FilterOptions{Mode: 7}), syscall.EINVAL},
		{"halves without a list", m.SetCR3Filter(with(func(o *xen.CR3FilterOptions) { o.Halves = 0x1800 })), syscall.EINVAL},
		{"mask too wide", m.SetCR3Filter(with(func(o *xen.CR3FilterOptions) { o.Mask = 1 << 63 })), syscall.EINVAL},
		{"add", m.AddCR3(0x4abc), nil},
		{"add again", m.AddCR3(0x5000), xen.ErrExists},
		{"add with bit 63", m.AddCR3(1<<63 | 0x8000), syscall.EINVAL},
		{"another mask", m.SetCR3Filter(with(func(o *xen.CR3FilterOptions) { o.Mask = 0xfff })), xen.ErrBusy},
		{"remove what is not there", m.RemoveCR3(0x8000), xen.ErrNotFound},
		{"another mode", m.SetCR3Filter(with(func(o *xen.CR3FilterOptions) { o.Mode = xen.CR3FilterMember })), nil},
	} {
		if !errors.Is(tt.err, tt.is) {
			t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.is)
		}
	}
	want.Entries, want.CR3FilterOptions = 1, with(func(o *xen.CR3FilterOptions) { o.Mode = xen.CR3FilterMember })
	check("with a value")
	err := m.SetCR3Filter(with(func(o *xen.CR3FilterOptions) { o.TargetList, o.Halves = true, 0x1800 }))
	if none.TargetListAvailable {
		if err != nil {
			t.Errorf("target list: %v", err)
		}
		want.CR3FilterOptions = with(func(o *xen.CR3FilterOptions) { o.TargetList, o.Halves = true, 0x1800 })
		check("with the target list")
	} else if !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "do without TargetList") {
		t.Errorf("target list where there is none: %v", err)
	}

	values := []uint64{0x4000}
	for i := range uint64(255) {
		v := (i + 10) << 13
		values = append(values, v)
		if err := m.AddCR3(v | 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.AddCR3(0x2000); !errors.Is(err, xen.ErrNoSpace) {
		t.Errorf("one too many: %v", err)
	}
	list := func(when string) {
		t.Helper()
		got, err := m.CR3Values()
		slices.Sort(got)
		if diff := cmp.Diff(values, got); diff != "" || err != nil {
			t.Errorf("%s: %v, %s", when, err, diff)
		}
	}
	list("full")
	// New options of the event must not lose the filter.
	if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableCtrlReg(xen.CR3, &xen.CtrlRegOptions{IgnoreBits: 0xfff})); err != nil {
		t.Error(err)
	}
	list("after new options")
	for i := 1; i < len(values); i += 2 {
		if err := m.RemoveCR3(values[i]); err != nil {
			t.Error(err)
		}
	}
	rest := values[:0]
	for i := 0; i < 256; i += 2 {
		rest = append(rest, values[i])
	}
	values = rest
	list("half of them")
	if err := errors.Join(m.ClearCR3(), m.DisableCtrlReg(xen.CR3)); err != nil {
		t.Error(err)
	}
	want.Entries, want.CR3FilterOptions = 0, xen.CR3FilterOptions{}
	check("after the event was disabled")
	if err := errors.Join(m.SetCR3Filter(match), m.AddCR3(0x4000), m.Close()); err != nil {
		t.Error(err)
	}
	m, _ = filterMonitor(t, d)
	check("in the next monitor")
}

// What passes is what the modes say, what does not is counted, and the guest
// works on.
func TestLabCR3FilterEvents(t *testing.T) {
	g := sharedGuest(t)
	d := lookup(t, g)
	m, info := filterMonitor(t, d)
	pti := strings.TrimSpace(g.MustExec(t.Context(), "grep -c -w pti /proc/cpuinfo || true")) != "0"
	mask := uint64(0xfff)
	if pti {
		mask = 0x1fff
	}
	// Two pairs, so that there are switches without the process watched.
	for range 2 {
		work := g.Start(t.Context(), "exec workload cr3switch -n 100000000")
		work.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
		defer g.MustExec(t.Context(), fmt.Sprintf("kill -9 %d", work.PID()))
	}

	// serveN answers n events.
	serveN := func(n int, see func(*xen.Request)) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		err := m.Serve(ctx, func(r *xen.Request) xen.Response {
			see(r)
			if n--; n == 0 {
				cancel()
			}
			return xen.Response{}
		})
		if err != context.Canceled {
			t.Fatalf("Serve: %v", err)
		}
	}
	// Without a filter, to learn the processes' roots.
	count := map[uint64]int{}
	if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
		t.Fatal(err)
	}
	serveN(2000, func(r *xen.Request) { count[r.Ctrl.New&^mask]++ })
	var root uint64
	for r := range count {
		if count[r] > count[root] {
			root = r
		}
	}
	if count[root] < 200 {
		t.Fatalf("no root is switched to often: %v", count)
	}

	// run filters and returns how many writes were dropped for n events.
	run := func(name string, o xen.CR3FilterOptions, legal func(now, was bool) bool) uint64 {
		t.Helper()
		const n = 300
		// The ring may hold events of before, and the counters are the filter's.
		if err := errors.Join(m.SetCR3Filter(xen.CR3FilterOptions{}), m.SetCR3Filter(o)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := m.Drain(); err != nil {
			t.Fatal(err)
		}
		if err := m.AddCR3(root | 0x801&mask); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		bad := 0
		var in, known bool
		serveN(n, func(r *xen.Request) {
			now, was := r.Ctrl.New&^mask == root, r.Ctrl.Old&^mask == root
			// One vCPU: it is where the last event left it.
			if !legal(now, was) || known && o.Mode == xen.CR3FilterMember && was != in {
				if bad++; bad == 1 {
					t.Errorf("%s: %#x to %#x with %#x watched", name, r.Ctrl.Old, r.Ctrl.New, root)
				}
			}
			in, known = now, true
		})
		if err := m.ClearCR3(); err != nil {
			t.Fatal(err)
		}
		late, err := m.Drain()
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.CR3Filter()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d events, %d late, %d writes forwarded, %d dropped", name, n, late, got.Forwarded, got.Dropped)
		if got.Forwarded != uint64(n+late) || got.Dropped == 0 || bad > 0 {
			t.Errorf("%s: %d and %d events, forwarded %d, dropped %d, %d events amiss", name, n, late, got.Forwarded, got.Dropped, bad)
		}
		// With nothing watched nothing comes.
		g.MustExec(t.Context(), "(true)")
		if late, err := m.Drain(); late != 0 || err != nil {
			t.Errorf("%s: %d events with nothing watched, %v", name, late, err)
		}
		return got.Dropped
	}
	entersOrLeaves := func(now, was bool) bool { return now != was }
	plain := run("member", xen.CR3FilterOptions{Mode: xen.CR3FilterMember, Mask: mask}, entersOrLeaves)
	run("match", xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: mask}, func(now, was bool) bool { return now || was })
	if info.TargetListAvailable {
		o := xen.CR3FilterOptions{Mode: xen.CR3FilterMember, Mask: mask, TargetList: true, Halves: 0x1800 & mask}
		if !pti {
			o.Halves = 0
		}
		listed := run("member with the target list", o, entersOrLeaves)
		if pti && listed*2 > plain {
			t.Errorf("the target list saves too little: %d exits with it, %d without", listed, plain)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	g.MustExec(t.Context(), "true")
}

// A killed monitor's filter goes with the recovery.
func TestLabCR3FilterRecovered(t *testing.T) {
	g := labtest.StartGuest(t, guest.Spec{MemoryMiB: 128})
	d := lookup(t, g)
	m, off := filterMonitor(t, d)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	work := g.Start(t.Context(), "exec workload cr3switch -n 100000000")
	work.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
	killServing(t, g, "filtered cr3", nil)
	if err := d.RecoverMonitor(nil); err != nil {
		t.Fatal(err)
	}
	m, now := filterMonitor(t, d)
	if diff := cmp.Diff(off, now); diff != "" {
		t.Errorf("the filter: %s", diff)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	g.MustExec(t.Context(), fmt.Sprintf("kill -9 %d", work.PID()))
}
