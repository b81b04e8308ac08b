//go:build lab

package breakpoint_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// Two processes, each on a vCPU of its own, run into the same breakpoint all the time,
// while another one, which a third process runs into on either, comes and goes in the
// same kernel, and so does a second caller of the first: each of the two is hit
// exactly as often as it makes the call, and on its vCPU.
func TestLabSharedHits(t *testing.T) {
	const vcpus = 2
	if n := hostCPUs(t); n < vcpus {
		t.Skipf("%d vCPUs on %d physical CPU: the VMX lane's emulator runs guests of one vCPU only", vcpus, n)
	}
	ctx := t.Context()
	spec := labtest.Ordinary()
	spec.VCPUs = vcpus
	g := labtest.SharedGuest(t, spec)
	labtest.Intact(t, g)
	n := labtest.Count(100000) / vcpus
	var calls [vcpus]*labtest.Command
	var pids [vcpus]int
	for i := range calls {
		start := fmt.Sprintf("exec workload calls -kind getppid -n %d -cpu %d -wait /tmp/go", n, i)
		if i == 0 {
			start = "rm -f /tmp/go; " + start
		}
		calls[i] = g.Start(ctx, start)
		m := calls[i].WaitLine(ctx, regexp.MustCompile(`calls ready pid=(\d+) `))
		pids[i], _ = strconv.Atoi(m[1])
	}
	busy := g.Start(ctx, "exec workload busy -kinds getuid -spin 1000")

	s, err := attach(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var hits [vcpus]int
	var others, wrong int
	if err := s.insert(getppid, func(r *xen.Request) xen.Response {
		task, err := s.kernel.CurrentTask(&r.Regs)
		var pid int32
		if err == nil {
			pid, err = task.TGID()
		}
		switch {
		case err != nil || int(r.VCPU) >= vcpus:
			wrong++
		case int(pid) == pids[r.VCPU]:
			hits[r.VCPU]++
		case slices.Contains(pids[:], int(pid)): // on the other's vCPU
			wrong++
		default: // a shell makes the call once
			others++
		}
		return xen.Response{}
	}); err != nil {
		t.Fatal(err)
	}
	stop := s.serve(t)
	defer stop()
	done := make(chan struct{})
	changes := make(chan changed, 1)
	go func() { changes <- s.change(done) }()

	g.MustExec(ctx, "touch /tmp/go")
	for i := range calls {
		out, status := calls[i].Wait(ctx)
		if want := fmt.Sprintf("calls kind=getppid n=%d pid=%d", n, pids[i]); status != 0 || !strings.Contains(out, want) {
			t.Errorf("the guest says, with status %d: %q; want %q", status, out, want)
		}
	}
	close(done)
	c := <-changes
	if c.err != nil {
		t.Error(c.err)
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(ctx); status != 0 {
		t.Errorf("the busy neighbour ended with status %d: %s", status, out)
	}
	stop()
	stats := s.engine.Stats()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for i, got := range hits {
		if got != n {
			t.Errorf("%d hits on vCPU %d, want %d; %+v", got, i, n, stats)
		}
	}
	if wrong != 0 || stats.Foreign != 0 {
		t.Errorf("%d hits on another vCPU, or by nobody, %+v", wrong, stats)
	}
	if c.rounds == 0 || c.own == 0 || c.shared == 0 {
		t.Errorf("breakpoints came and went %d times, with %d hits, and %d of a second caller", c.rounds, c.own, c.shared)
	}
	t.Logf("%d hits of two processes, each on its vCPU; %d times breakpoints came and went, with %d hits, and %d of a second caller; %d hits of others; %+v",
		hits[0]+hits[1], c.rounds, c.own, c.shared, others, stats)
}

// changed is what became of breakpoints that came and went.
type changed struct {
	rounds      int
	own, shared uint64 // hits: of an address of its own, and of one that another has
	err         error
}

// change inserts and removes breakpoints until done is closed.
func (s *session) change(done <-chan struct{}) (c changed) {
	for ; ; c.rounds++ {
		own, err := s.comeAndGo("__x64_sys_getuid", done)
		if err != nil {
			return changed{err: err}
		}
		shared, err := s.comeAndGo(getppid, done)
		if err != nil {
			return changed{err: err}
		}
		c.own, c.shared = c.own+own, c.shared+shared
		select {
		case <-done:
			return c
		default:
		}
	}
}

// comeAndGo has a breakpoint for a moment, and returns how often it was hit.
func (s *session) comeAndGo(symbol string, done <-chan struct{}) (hits uint64, err error) {
	va, err := s.kernel.Symbols().Lookup(symbol)
	if err != nil {
		return 0, err
	}
	b, err := s.engine.Insert(s.kernel.AddressSpace(), va, func(*xen.Request) xen.Response { return xen.Response{} })
	if err != nil {
		return 0, err
	}
	select {
	case <-done:
	case <-time.After(5 * time.Millisecond):
	}
	err = b.Remove()
	hits, _ = b.Hits()
	return hits, err
}
