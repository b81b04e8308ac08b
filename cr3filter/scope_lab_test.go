//go:build lab

package cr3filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// getppid is a system call's function whose callers the tests know.
const getppid = "__x64_sys_getppid"

// scope opens a scope; the test's end closes it.
func (l *lab) scope(p cr3filter.Process, o *cr3filter.ScopeOptions) *cr3filter.Scope {
	l.t.Helper()
	s, err := cr3filter.OpenScope(cr3filter.Guest{
		Domain: l.dom, Monitor: l.mon, Frames: vmi.MapperFunc(l.dom.MapFrames), Kernel: l.kern, Loop: l.loop,
	}, p, o)
	if err != nil {
		l.t.Fatal(err)
	}
	clean(l.t, s.Close)
	return s
}

// count puts a breakpoint on a kernel function that counts by process.
func (l *lab) count(s *cr3filter.Scope, symbol string, hits map[int32]int) {
	l.t.Helper()
	va, err := l.kern.Symbols().Lookup(symbol)
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = s.Insert(va, func(_ *xen.Request, t linux.Task) xen.Response {
		if tgid, err := t.TGID(); err == nil {
			hits[tgid]++
		}
		return xen.Response{}
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// check closes the scope and returns what it counted.
func (l *lab) check(s *cr3filter.Scope) cr3filter.ScopeStats {
	l.t.Helper()
	stats, err := s.Stats()
	if err != nil {
		l.t.Error(err)
	}
	if err := s.Close(); err != nil {
		l.t.Error(err)
	}
	if stats.Unknown != 0 || stats.Breakpoints.Foreign != 0 || stats.Breakpoints.Overwritten != 0 {
		l.t.Errorf("%+v", stats)
	}
	return stats
}

// ways are the mechanisms that there are, with breakpoints in a view and not: all
// of these in a soak run, otherwise each mechanism in one way and the best in both.
func ways(t *testing.T) (all []cr3filter.ScopeOptions) {
	for i, m := range append(here(t), cr3filter.EveryHit) {
		views, bytes := labtest.VMX(), true
		if views && i > 0 && !labtest.Soak() {
			views = i%2 == 0
			bytes = !views
		}
		if views {
			all = append(all, cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{m}})
		}
		if bytes {
			all = append(all, cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{m}, NoViews: true})
		}
	}
	return all
}

// A process makes exactly n calls while two others make the same ones; its
// breakpoint counts n, with every mechanism, and the kernel's text stays as it
// was.
func TestLabScopeExact(t *testing.T) {
	labtest.Intact(t, labtest.SharedGuest(t, labtest.Ordinary()))
	for _, o := range ways(t) {
		t.Run(fmt.Sprintf("%v, views %v", o.Mechanisms[0], !o.NoViews), func(t *testing.T) {
			exactHits(t, labtest.Ordinary(), o, labtest.Count(10000), "")
		})
	}
}

// The same on two vCPUs, with the process moving from one to the other.
func TestLabScopeMigrating(t *testing.T) {
	if labtest.VMX() {
		t.Skip("the VMX lane's emulator runs guests of one vCPU only")
	}
	two := guest.Spec{KASLR: true, VCPUs: 2}
	labtest.Intact(t, labtest.SharedGuest(t, two))
	for _, o := range ways(t) {
		t.Run(o.Mechanisms[0].String(), func(t *testing.T) {
			exactHits(t, two, o, labtest.Count(10000), "-migrate")
		})
	}
}

func exactHits(t *testing.T, spec guest.Spec, o cr3filter.ScopeOptions, n int, how string) {
	ctx := t.Context()
	l := attach(t, spec)
	calls := l.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload calls -kind getppid -n %d %s -wait /tmp/go", n, how))
	pid := ready(t, calls, `calls ready pid=(\d+) `)[0]
	var busy []*labtest.Command
	for range 2 {
		// They sleep in between: where an event takes longer than the guest's tick,
		// as under QEMU, processes that are always ready would only switch.
		busy = append(busy, l.Start(ctx, "exec workload busy -kinds getuid,getppid -spin 100000 -pause 100ms"))
	}
	s := l.scope(cr3filter.Process{PID: pid}, &o)
	stop := l.serve()
	defer stop()
	hits := map[int32]int{}
	l.count(s, getppid, hits)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	l.MustExec(ctx, "touch /tmp/go")
	out, status := calls.Wait(ctx)
	if want := fmt.Sprintf("calls kind=getppid n=%d pid=%d", n, pid); status != 0 || !strings.Contains(out, want) {
		t.Errorf("the guest says, with status %d: %q; want %q", status, out, want)
	}
	for _, b := range busy {
		l.finish(b)
	}
	stop()
	if left := s.Processes(); len(left) != 0 {
		t.Errorf("processes %v are still in the scope", left)
	}
	placement, list := s.Placement(), s.TargetList()
	stats := l.check(s)
	if hits[pid] != n || len(hits) != 1 {
		t.Errorf("hits %v, want %d of process %d", hits, n, pid)
	}
	if o.Mechanisms[0] == cr3filter.EveryHit && stats.Foreign == 0 {
		t.Error("the neighbours made no calls")
	}
	if o.Mechanisms[0] != cr3filter.EveryHit && spec.VCPUs <= 1 && stats.Foreign != 0 {
		t.Errorf("%d hits of other processes", stats.Foreign)
	}
	t.Logf("%s, target list %v: %d hits of the process; %+v", placement, list, hits[pid], stats)
}
