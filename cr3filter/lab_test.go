//go:build lab

package cr3filter_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// lab is a monitored guest of the lab.
type lab struct {
	*labtest.Guest
	t    *testing.T
	dom  *xen.Domain
	mon  *xen.Monitor
	kern *linux.Kernel
	loop *vmi.Loop
}

// attach returns when the guest is monitored; the test's end detaches.
func attach(t *testing.T, spec guest.Spec) *lab {
	t.Helper()
	l := &lab{Guest: labtest.SharedGuest(t, spec), t: t}
	hyp, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, hyp.Close)
	if l.dom, err = hyp.LookupDomain(l.Name()); err != nil {
		t.Fatal(err)
	}
	if l.kern, err = kernel(l.dom.ID()); err != nil {
		t.Fatal(err)
	}
	if l.mon, err = l.dom.OpenMonitor(nil); err != nil {
		t.Fatal(err)
	}
	clean(t, l.mon.Close)
	l.loop = vmi.NewLoop(l.mon)
	return l
}

// known are the kernels of this boot's guests, with a hypervisor of their own:
// to find one takes as long as many of the tests.
var known struct {
	sync.Mutex
	hyp     *xen.Hypervisor
	kernels map[xen.DomID]*linux.Kernel
}

func kernel(id xen.DomID) (_ *linux.Kernel, err error) {
	known.Lock()
	defer known.Unlock()
	if k := known.kernels[id]; k != nil {
		return k, nil
	}
	if known.hyp == nil {
		if known.hyp, err = xen.Open(nil); err != nil {
			return nil, err
		}
		known.kernels = make(map[xen.DomID]*linux.Kernel)
	}
	dom, err := known.hyp.Domain(id)
	if err != nil {
		return nil, err
	}
	regs, err := dom.AllRegisters()
	if err != nil {
		return nil, err
	}
	k, err := linux.Open(vmi.NewMemory(vmi.MapperFunc(dom.MapFrames), nil), regs)
	if err == nil {
		known.kernels[id] = k
	}
	return k, err
}

func clean(t *testing.T, f func() error) {
	t.Cleanup(func() {
		if err := f(); err != nil {
			t.Error(err)
		}
	})
}

// serve serves events until the function that it returns is called.
func (l *lab) serve() (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.loop.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			l.t.Errorf("loop: %v", err)
		}
	})
}

// ready waits for a line that names process ids, and returns them.
func ready(t *testing.T, c *labtest.Command, pattern string) (pids []int32) {
	t.Helper()
	for _, m := range c.WaitLine(t.Context(), regexp.MustCompile(pattern))[1:] {
		pid, err := strconv.ParseInt(m, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, int32(pid))
	}
	return pids
}

func (l *lab) root(pid int32) vmi.CR3 {
	l.t.Helper()
	task, err := l.kern.TaskByPID(pid)
	if err != nil {
		l.t.Fatal(err)
	}
	root, err := task.Root()
	if err != nil {
		l.t.Fatal(err)
	}
	return root
}

// finish ends a process that runs until it is told.
func (l *lab) finish(c *labtest.Command) string {
	l.t.Helper()
	l.MustExec(l.t.Context(), fmt.Sprintf("kill -TERM %d", c.PID()))
	out, status := c.Wait(l.t.Context())
	if status != 0 {
		l.t.Errorf("a process of the guest ended with status %d: %s", status, out)
	}
	return out
}

// here lists the mechanisms that this Xen has. On a patched one the filter must
// be among them.
func here(t *testing.T) []cr3filter.Mechanism {
	if labtest.PatchedXen(t) {
		return []cr3filter.Mechanism{cr3filter.FilteredByXen, cr3filter.FilteredHere}
	}
	return []cr3filter.Mechanism{cr3filter.FilteredHere}
}

// Two processes hand a byte to each other n times, beside a third that is
// busy. Each round trip on one vCPU is at least one switch to either process;
// no switch is reported that concerns neither.
func TestLabFilterSwitches(t *testing.T) {
	const n = 300
	for _, m := range here(t) {
		t.Run(m.String(), func(t *testing.T) {
			ctx := t.Context()
			l := attach(t, labtest.Ordinary())
			pair := l.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload cr3switch -n %d -wait /tmp/go", n))
			pids := ready(t, pair, `cr3switch ready pids=(\d+),(\d+)`)
			busy := l.Start(ctx, "exec workload busy")

			c := cr3filter.Linux(l.kern.KPTI())
			c.Mechanisms = []cr3filter.Mechanism{m}
			roots := map[vmi.PhysAddr]int{}
			var entered [2]int
			strangers := 0
			filter, err := cr3filter.Open(l.mon, c, func(s cr3filter.Switch) xen.Response {
				to, isTo := roots[s.To]
				if _, isFrom := roots[s.From]; !isFrom && !isTo {
					strangers++
				}
				if isTo {
					entered[to]++
				}
				return xen.Response{}
			})
			if err != nil {
				t.Fatal(err)
			}
			clean(t, filter.Close)
			if err := l.loop.OnCtrlReg(xen.CR3, filter.Handle); err != nil {
				t.Fatal(err)
			}
			for i, pid := range pids {
				root := l.root(pid)
				roots[root.Root()] = i
			}
			stop := l.serve()
			defer stop()
			for _, pid := range pids {
				if err := filter.Watch(l.root(pid)); err != nil {
					t.Fatal(err)
				}
			}
			l.MustExec(ctx, "touch /tmp/go")
			if out, status := pair.Wait(ctx); status != 0 {
				t.Errorf("the pair ended with status %d: %s", status, out)
			}
			l.finish(busy)
			stop()
			stats, err := filter.Stats()
			if err != nil {
				t.Error(err)
			}
			if entered[0] < n || entered[1] < n || strangers != 0 {
				t.Errorf("%d and %d switches to the two processes, want at least %d each; %d switches concern neither", entered[0], entered[1], n, strangers)
			}
			if stats.Switches < 2*n || stats.Events < stats.Switches {
				t.Errorf("%+v", stats)
			}
			if m == cr3filter.FilteredByXen && (stats.Events != stats.Switches || stats.Dropped == 0) {
				t.Errorf("%+v: Xen is to send the watched ones' switches, all of them and nothing else", stats)
			}
			t.Logf("KPTI %v, target list %v: %d and %d switches to the two processes, %+v", l.kern.KPTI(), filter.TargetList(), entered[0], entered[1], stats)
		})
	}
}
