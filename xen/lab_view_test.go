//go:build lab

package xen_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// needVMX skips a test where the processor can neither single-step guests nor
// have views, which Xen offers with VMX only.
func needVMX(t *testing.T) {
	t.Helper()
	m, err := lookup(t, sharedGuest(t)).OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := m.Capabilities()
	if err != nil {
		t.Fatal(err)
	}
	if !c.SingleStep() {
		t.Skipf("no single-stepping and no altp2m on this processor (capabilities %#x)", c.Raw)
	}
}

// frameOf finds the frame at a kernel address by the page tables, which are
// four levels deep.
func frameOf(t *testing.T, d *xen.Domain, cr3, va uint64) xen.GFN {
	t.Helper()
	const frame = 1<<52 - xen.PageSize
	table := cr3 & frame
	for level := 3; ; level-- {
		f, err := d.MapFrames([]xen.GFN{xen.GFN(table >> xen.PageShift)}, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.Frame(0)
		if err != nil {
			t.Fatal(err)
		}
		shift := xen.PageShift + 9*level
		e := binary.LittleEndian.Uint64(b[va>>shift&511*8:])
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		const present, large = 1, 1 << 7
		if e&present == 0 {
			t.Fatalf("%#x is not mapped", va)
		}
		if level == 0 || e&large != 0 {
			size := uint64(1) << shift
			return xen.GFN((e&frame&^(size-1) | va&(size-1)) >> xen.PageShift)
		}
		table = e & frame
	}
}

// shadowed is a view in which the entry of system calls is a breakpoint.
type shadowed struct {
	view          xen.View
	at            uint64 // its address
	frame, shadow xen.GFN
}

// newShadowed does what it takes, and registers what undoes it.
func newShadowed(t *testing.T, d *xen.Domain) shadowed {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	undo := func(f func() error) {
		t.Cleanup(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	r, err := d.Registers(0)
	must(err)
	s := shadowed{at: r.LSTAR, frame: frameOf(t, d, r.CR3, r.LSTAR)}
	info, err := d.Info()
	must(err)
	must(d.SetMaxPages(info.MaxPages + 1))
	undo(func() error { return d.SetMaxPages(info.MaxPages) })
	last, err := d.MaximumGPFN()
	must(err)
	s.shadow = last + 1
	must(d.Populate(s.shadow))
	undo(func() error { return d.RemoveFrame(s.shadow) })
	f, err := d.MapFrames([]xen.GFN{s.frame, s.shadow}, true)
	must(err)
	from, err := f.Frame(0)
	must(err)
	to, err := f.Frame(1)
	must(err)
	copy(to, from)
	to[s.at%xen.PageSize] = 0xcc
	must(f.Close())

	must(d.SetAltP2M(true))
	undo(func() error { return d.SetAltP2M(false) })
	s.view, err = d.CreateView()
	must(err)
	undo(func() error { return d.DestroyView(s.view) })
	must(d.ChangeGFN(s.view, s.frame, s.shadow))
	undo(func() error { return d.ResetGFN(s.view, s.frame) })
	return s
}

// A breakpoint that is in a view only: every call of the guest's is seen, with
// both ways to step over it, and the guest's own memory is as it was.
func TestLabViews(t *testing.T) {
	needVMX(t)
	g := labtest.SharedGuest(t, labtest.Ordinary())
	d := lookup(t, g)
	if on, err := d.AltP2M(); on || err != nil {
		t.Fatalf("AltP2M() = %v, %v", on, err)
	}
	s := newShadowed(t, d)
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.SwitchView(0), m.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(m.EnableSoftwareBreakpoint(), m.EnableSingleStep()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		step  xen.Step
		trips int
	}{
		{"fast step", xen.FastStep, 1},
		{"two trips", xen.ToggleStep, 2},
	} {
		const n, pread64, size = 200, 17, 16 // the loader preads other sizes
		g.MustExec(t.Context(), "rm -f /tmp/go")
		cmd := g.Start(t.Context(), fmt.Sprintf("exec workload calls -kind pread64 -n %d -wait /tmp/go", n))
		cmd.WaitLine(t.Context(), regexp.MustCompile(`calls ready`))
		calls, hits, steps, strange := 0, 0, 0, 0
		var over atomic.Bool
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			err := m.Serve(ctx, func(r *xen.Request) xen.Response {
				switch {
				case r.Reason == xen.ReasonSoftwareBreakpoint && r.Regs.RIP == s.at && r.View == s.view:
					if over.Load() {
						return xen.Response{Switch: true, View: 0}
					}
					hits++
					if r.Regs.RAX == pread64 && r.Regs.RDX == size {
						calls++
					}
					return xen.Response{Step: tt.step, Switch: true, View: 0, StepView: s.view}
				case r.Reason == xen.ReasonSingleStep && r.View == 0 && r.Regs.RIP > s.at && r.Regs.RIP-s.at < 16:
					steps++
					return xen.Response{Step: xen.ToggleStep, Switch: !over.Load(), View: s.view}
				}
				if strange++; strange == 1 {
					t.Errorf("%s: request %+v", tt.name, *r)
				}
				return xen.Response{Switch: true, View: 0}
			})
			if err != context.Canceled {
				t.Errorf("%s: Serve: %v", tt.name, err)
			}
		})
		if err := d.SwitchView(s.view); err != nil {
			t.Error(err)
		}
		g.MustExec(t.Context(), "touch /tmp/go")
		out, status := cmd.Wait(t.Context())
		// A vCPU on its step goes back to the view after the switch, and leaves it
		// for good with its next call.
		over.Store(true)
		if err := d.SwitchView(0); err != nil {
			t.Error(err)
		}
		g.MustExec(t.Context(), "true") // whatever is in the ring is answered
		cancel()
		wg.Wait()
		if status != 0 || !strings.Contains(out, fmt.Sprintf("n=%d ", n)) {
			t.Errorf("%s: status %d, output %q", tt.name, status, out)
		}
		t.Logf("%s: %d calls of %d, %d hits, %d steps", tt.name, calls, n, hits, steps)
		if calls != n || steps != hits*(tt.trips-1) || strange > 0 {
			t.Errorf("%s: %d of %d calls seen, %d hits with %d steps, %d strange requests", tt.name, calls, n, hits, steps, strange)
		}
		f, err := d.MapFrames([]xen.GFN{s.frame}, false)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := f.Frame(0); err != nil || b[s.at%xen.PageSize] == 0xcc {
			t.Errorf("%s: the breakpoint is in the guest's own memory (%v)", tt.name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What Xen answers to operations on views that cannot be.
func TestLabViewErrors(t *testing.T) {
	plain := lookup(t, labtest.CreatePaused(t, guest.Spec{}))
	_, err := plain.AltP2M()
	if !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "altp2m=") {
		t.Errorf("a domain without views: %v", err)
	}
	t.Log(err)
	needVMX(t)
	if !strings.Contains(err.Error(), `altp2m="external"`) {
		t.Errorf("a domain without views: %v", err)
	}
	d := lookup(t, labtest.SharedGuest(t, labtest.Ordinary()))
	if _, err := d.CreateView(); !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "SetAltP2M(true) first") {
		t.Errorf("CreateView while it is off: %v", err)
	}
	if err := d.SetAltP2M(true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.SetAltP2M(false); err != nil {
			t.Error(err)
		}
	}()
	var views []xen.View
	for len(views) < 1000 {
		v, err := d.CreateView()
		if errors.Is(err, xen.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
	}
	t.Logf("%d views besides view 0", len(views))
	if len(views) < 2 || len(views) == 1000 {
		t.Fatalf("%d views", len(views))
	}
	v := views[0]
	maxGFN, err := d.MaximumGPFN()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		err  error
		is   error
	}{
		{"rx", d.SetViewAccess(v, 0x1000, xen.AccessRX), nil},
		{"default", d.SetViewAccess(v, 0x1000, xen.AccessDefault), nil},
		{"nowhere", d.SetViewAccess(v, maxGFN+1000, xen.AccessRX), nil},
		{"reset", d.ResetGFN(v, 0x1000), nil},
		{"switch", d.SwitchView(v), nil},
		{"destroy in use", d.DestroyView(v), xen.ErrBusy},
		{"switch back", d.SwitchView(0), nil},
		{"destroy", d.DestroyView(v), nil},
		{"destroy again", d.DestroyView(v), xen.ErrBusy},
		{"switch to nowhere", d.SwitchView(v), syscall.EINVAL},
		{"change nowhere", d.ChangeGFN(v, 0x1000, 0x1001), syscall.EINVAL},
	} {
		if !errors.Is(tt.err, tt.is) {
			t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.is)
		}
	}
}

// A vCPU that steps makes one request per instruction until it is told to stop.
func TestLabSingleStep(t *testing.T) {
	needVMX(t)
	g := sharedGuest(t)
	d := lookup(t, g)
	work := g.Start(t.Context(), "exec workload cr3switch -n 100000000")
	work.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
	defer g.MustExec(t.Context(), fmt.Sprintf("kill -9 %d", work.PID()))
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	// From here on the guest needs answers, so nothing is asked of it.
	if err := errors.Join(m.EnableSingleStep(), m.EnableCtrlReg(xen.CR3, nil)); err != nil {
		t.Fatal(err)
	}
	const n = 500
	steps, after, same := 0, 0, 0
	var rip uint64
	stepping := false
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = m.Serve(ctx, func(r *xen.Request) xen.Response {
		switch {
		case r.Reason == xen.ReasonSingleStep:
			if steps++; r.Regs.RIP == rip {
				same++
			}
			rip = r.Regs.RIP
			if steps == n {
				return xen.Response{Step: xen.ToggleStep}
			}
		case !stepping:
			stepping = true
			return xen.Response{Step: xen.ToggleStep}
		case steps >= n:
			if after++; after == 20 {
				cancel()
			}
		}
		return xen.Response{}
	})
	if err != context.Canceled {
		t.Errorf("Serve: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d steps, %d of them in place, then %d other events without one", steps, same, after)
	if steps != n || same > n/2 {
		t.Errorf("%d steps, %d of them in place; want %d", steps, same, n)
	}
	g.MustExec(t.Context(), "true")
}
