//go:build lab

package breakpoint_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// strategies are those that the lane has.
func strategies() []breakpoint.Strategy {
	if !labtest.VMX() {
		return []breakpoint.Strategy{breakpoint.PatchedByte}
	}
	return []breakpoint.Strategy{
		breakpoint.ViewByInstruction, breakpoint.ViewFastStep, breakpoint.ViewEmulate, breakpoint.ViewTwoTrips, breakpoint.PatchedByte,
	}
}

// known is a shared guest whose kernel is known.
func known(t *testing.T) (*labtest.Guest, *target) {
	t.Helper()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	k, err := openTarget(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, k
}

// begin attaches and serves. stop ends that, detaches, and returns what was counted;
// it is called at the test's end if not before.
func (g *target) begin(t *testing.T, how breakpoint.Strategy) (s *session, stop func() breakpoint.Stats) {
	t.Helper()
	s, err := g.attach(how)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.engine.Strategy(); got != how {
		t.Errorf("%v was asked for, it is %v", how, got)
	}
	unserve := s.serve(t)
	stop = sync.OnceValue(func() breakpoint.Stats {
		unserve()
		st := s.engine.Stats()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return st
	})
	t.Cleanup(func() { stop() })
	return s, stop
}

// stubs are functions of a process that waits to call them.
type stubs struct {
	*labtest.Command
	pid   int
	addrs []vmi.VirtAddr
}

func startStubs(t *testing.T, g *labtest.Guest, flags string) *stubs {
	t.Helper()
	p := &stubs{Command: g.Start(t.Context(), "rm -f /tmp/go; exec workload stubs -wait /tmp/go "+flags)}
	m := p.WaitLine(t.Context(), regexp.MustCompile(`stubs ready pid=(\d+) addrs=([0-9a-f,]+)`))
	var err error
	if p.pid, err = strconv.Atoi(m[1]); err != nil {
		t.Fatal(err)
	}
	for _, a := range strings.Split(m[2], ",") {
		va, err := strconv.ParseUint(a, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		p.addrs = append(p.addrs, vmi.VirtAddr(va))
	}
	return p
}

// call has them called and returns the numbers that the process prints, which match
// the pattern.
func (p *stubs) call(t *testing.T, g *labtest.Guest, pattern string) (numbers []int) {
	t.Helper()
	g.MustExec(t.Context(), "touch /tmp/go")
	out, status := p.Wait(t.Context())
	result := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if status != 0 || result == nil {
		t.Fatalf("the guest's process ended with status %d: %s", status, out)
	}
	for _, r := range result[1:] {
		n, err := strconv.Atoi(r)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// process returns a process's address space, and a condition for hits of it.
func (s *session) process(pid int) (vmi.AddressSpace, breakpoint.Condition, error) {
	for p, err := range s.kernel.Processes() {
		if err != nil {
			return vmi.AddressSpace{}, nil, err
		}
		if int(p.PID) == pid {
			space, err := p.Task.AddressSpace()
			if err != nil || labtest.VMX() {
				return space, breakpoint.InProcess(s.kernel, int32(pid)), err
			}
			root, err := p.Task.Root()
			return space, breakpoint.InRoot(root), err
		}
	}
	return vmi.AddressSpace{}, nil, fmt.Errorf("no process %d", pid)
}

// A process of the guest calls functions of its own, whose first instructions have
// breakpoints: each is hit as often as the process says, which gets what the
// functions return, keeps its registers and, with the breakpoints in a view, reads
// the code as it has written it.
func TestLabStrategies(t *testing.T) {
	g, k := known(t)
	for _, how := range strategies() {
		n := labtest.Count(10000)
		if how == breakpoint.ViewByInstruction {
			n = labtest.Count(100000)
		}
		for _, stubs := range []int{1, 64} {
			t.Run(fmt.Sprintf("%v, %d breakpoints", how, stubs), func(t *testing.T) {
				runStubs(t, g, k, how, stubs, n, "")
			})
		}
		if how != breakpoint.ViewEmulate && how != breakpoint.PatchedByte {
			t.Run(fmt.Sprintf("%v, what Xen is not asked to emulate", how), func(t *testing.T) {
				runStubs(t, g, k, how, 4, labtest.Count(2000), "-sse")
			})
		}
	}
}

func runStubs(t *testing.T, g *labtest.Guest, k *target, how breakpoint.Strategy, stubs, n int, flags string) {
	if labtest.Soak() {
		flags += " -whole"
	}
	p := startStubs(t, g, fmt.Sprintf("-n %d -stubs %d %s", n, stubs, flags))
	s, stop := k.begin(t, how)
	space, mine, err := s.process(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	var bs []*breakpoint.Breakpoint
	for _, va := range p.addrs {
		b, err := s.engine.InsertWith(space, va, func(r *xen.Request) xen.Response {
			if r.Regs.RIP != uint64(va) {
				t.Errorf("a hit of %v at %#x", va, r.Regs.RIP)
			}
			return xen.Response{}
		}, &breakpoint.InsertOptions{When: mine})
		if err != nil {
			t.Fatal(err)
		}
		bs = append(bs, b)
	}
	v := p.call(t, g, fmt.Sprintf(`stubs n=%d pid=%d wrong=(\d+) registers=(\d+) text=(\d+) us=(\d+)`, n, p.pid))
	st := stop()
	wrong, registers, text, us := v[0], v[1], v[2], v[3]
	if wrong != 0 || registers != 0 {
		t.Errorf("%d calls returned something else, %d changed registers", wrong, registers)
	}
	// With bytes patched the process sees it, so that the look at the code is known
	// to see.
	if (text > 0) != (how == breakpoint.PatchedByte) {
		t.Errorf("the process read code that it has not written %d times", text)
	}
	for i, b := range bs {
		want := n / stubs
		if i < n%stubs {
			want++
		}
		if hits, passed := b.Hits(); int(hits) != want || passed != 0 {
			t.Errorf("breakpoint %d: %d hits, %d of others, want %d", i, hits, passed, want)
		}
	}
	if int(st.Hits) != n || st.Stale+st.Foreign+st.Overwritten > 0 || (st.Reads > 0) != (how != breakpoint.PatchedByte) {
		t.Errorf("%d calls, %+v", n, st)
	}
	t.Logf("%d hits of %d breakpoints, %v: %.1f us of the guest's time each, %d reads of the code", st.Hits, stubs, how, float64(us)/float64(n), st.Reads)
}

// The guest's kernel reads its own text while it has breakpoints: it is as before
// with those in a view, and not with patched bytes. In a soak it reads all of it,
// which takes a while.
func TestLabStealth(t *testing.T) {
	ctx := t.Context()
	g, k := known(t)
	calls := []string{"__x64_sys_getppid", "__x64_sys_getuid", "__x64_sys_lseek", "__x64_sys_pread64"}
	read := func() (text string) {
		if labtest.Soak() {
			return g.MustExec(ctx, "workload textsum")
		}
		return g.MustExec(ctx, "workload textsum -len 1024 -at "+strings.Join(calls, ","))
	}
	before := read()
	for _, how := range strategies() {
		s, stop := k.begin(t, how)
		for _, call := range calls {
			if err := s.insert(call, func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
				t.Error(err)
			}
		}
		during := read()
		st := stop()
		if patched := how == breakpoint.PatchedByte; (during != before) != patched || (st.Reads > 0) == patched || st.Hits == 0 {
			t.Errorf("%v: kernel text:\n%s\nbefore:\n%s\n%+v", how, during, before, st)
		}
		t.Logf("%d reads of the text, %d hits, %v", st.Reads, st.Hits, how)
	}
	if after := read(); after != before {
		t.Errorf("kernel text afterwards:\n%s\nbefore:\n%s", after, before)
	}
}

// The guest looks through the memory above its own, where the views' copies are: it
// reads as no memory does, in the guest's own view and in the engine's, and keeps
// nothing that is written. A page that nobody hides is seen.
func TestLabHiddenFrames(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("Xen has no views on AMD")
	}
	ctx := t.Context()
	g, k := known(t)
	last, err := k.dom.MaximumGPFN()
	if err != nil {
		t.Fatal(err)
	}
	const extra = 8
	scan := func(from xen.GFN, flags string) string {
		return g.MustExec(ctx, fmt.Sprintf("workload physread -from %d -n %d %s", from, extra, flags))
	}
	clean := fmt.Sprintf("phys pages=%d", extra)
	for _, how := range []breakpoint.Strategy{breakpoint.ViewFastStep, breakpoint.ViewTwoTrips} {
		s, stop := k.begin(t, how)
		if err := s.insert(getppid, func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
			t.Fatal(err)
		}
		now, err := s.dom.MaximumGPFN()
		if err != nil || now <= last {
			t.Errorf("frames up to %v, before %v, %v", now, last, err)
		}
		for _, flags := range []string{"", "-write", ""} {
			if out := strings.TrimSpace(scan(last+1, flags)); out != clean {
				t.Errorf("%v: the guest sees, with %q:\n%s", how, flags, out)
			}
		}
		stop()
		if s.engine.Probes() == 0 {
			t.Errorf("%v: the guest did not look", how)
		}
		t.Logf("%v: frames from %v to %v, %d probes", how, last+1, now, s.engine.Probes())
	}
	// What is there without being hidden is seen.
	d := k.dom
	at := last + extra
	if err := d.Populate(at); err != nil {
		t.Fatal(err)
	}
	f, err := d.MapFrames([]xen.GFN{at}, true)
	if err != nil {
		t.Fatal(err)
	}
	page, err := f.Frame(0)
	if err != nil {
		t.Fatal(err)
	}
	clear(page)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if out := scan(last+1, ""); !strings.Contains(out, fmt.Sprintf("phys at=%x 0000000000000000", uint64(at)<<xen.PageShift)) {
		t.Errorf("the guest does not see a page at %v:\n%s", at, out)
	}
	if err := d.RemoveFrame(at); err != nil {
		t.Error(err)
	}
}

// The guest reads code that has a breakpoint: each read is one event, and sees what
// the process has written. Which answer costs what is in the log; Xen's emulator is
// not asked by the package, since the guest would get an exception for what it does
// not know.
func TestLabReads(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("Xen has no views on AMD")
	}
	g, k := known(t)
	n := labtest.Count(5000)
	for _, tc := range []struct {
		name    string
		how     breakpoint.Strategy
		emulate bool
	}{
		{"fast step", breakpoint.ViewFastStep, false},
		{"two trips", breakpoint.ViewTwoTrips, false},
		{"emulation", breakpoint.ViewFastStep, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := startStubs(t, g, fmt.Sprintf("-n 0 -looks %d", n))
			s, stop := k.begin(t, tc.how)
			reads := 0
			s.answerAccess = func(r *xen.Request) (xen.Response, bool) {
				reads++
				return xen.Response{Action: xen.Emulate}, tc.emulate
			}
			space, _, err := s.process(p.pid)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.engine.Insert(space, p.addrs[0], func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
				t.Fatal(err)
			}
			us := p.call(t, g, fmt.Sprintf(`looks n=%d us=(\d+)\n.*text=0 `, n))[0]
			st := stop()
			if reads != n || st.Hits != 0 || !tc.emulate && int(st.Reads) != n {
				t.Errorf("%d events for %d reads, %+v", reads, n, st)
			}
			t.Logf("%d reads, %s: %.1f us of the guest's time each", n, tc.name, float64(us)/float64(n))
		})
	}
}

// The guest debugs its own processes, with int3s and single steps of its own, while
// there are breakpoints in its kernel: it gets each of them.
func TestLabGuestDebugs(t *testing.T) {
	ctx := t.Context()
	g, k := known(t)
	const n = 100
	for _, how := range strategies() {
		s, stop := k.begin(t, how)
		hits := 0
		for _, symbol := range []string{"__x64_sys_ptrace", "__x64_sys_wait4"} {
			if err := s.insert(symbol, func(*xen.Request) xen.Response { hits++; return xen.Response{} }); err != nil {
				t.Error(err)
			}
		}
		for _, debug := range []string{"int3", "singlestep"} {
			out := g.MustExec(ctx, fmt.Sprintf("workload %s -n %d", debug, n))
			if !strings.Contains(out, fmt.Sprintf("%s n=%d ", debug, n)) {
				t.Errorf("%v: the guest says %q", how, out)
			}
		}
		st := stop()
		if st.Foreign != n || hits < 2*n {
			t.Errorf("%v: %d int3s of the guest's own, want %d; %d calls of its debugger", how, st.Foreign, n, hits)
		}
		t.Logf("%d hits, %d of the guest's own, %v", hits, st.Foreign, how)
	}
}
