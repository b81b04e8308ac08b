//go:build lab

package breakpoint_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// What a hit may cost the guest, against the plain C monitor and against two trips
// through the ring.
const (
	mostOfC         = 1.1
	mostOfCEmulated = 1.25
	mostOfTwoTrips  = 0.6
)

// A hit costs the guest little more than with the plainest monitor that can be
// written in C, which does nothing else, and not much more than half of one that
// is stepped over in two trips. All are of the same instruction, in one guest, by the
// guest's clock, which counts instructions in the VMX lane. What the calls take
// without a monitor is not counted.
func TestLabYardstick(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("the SVM lane's clock is this machine's, and tells nothing of cost")
	}
	g, k := known(t)
	labtest.Intact(t, g)
	n := labtest.Count(20000)
	at, code, err := k.working(getppid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("% x at %v, %d calls", code, at, n)
	unmonitored := timeCalls(t, g, n, func() {})
	cost := func(name string, us int) float64 {
		c := float64(us-unmonitored) / float64(n)
		t.Logf("%d hits, %s: %.2f us of the guest's time each, with the call %.2f us", n, name, c, float64(us)/float64(n))
		if c <= 0 {
			t.Errorf("%s costs nothing: it was not hit", name)
		}
		return c
	}
	t.Logf("%d calls, unmonitored: %.2f us each", n, float64(unmonitored)/float64(n))
	c := cost("the C monitor", timeC(t, g, k, at, code, n))
	ours := map[breakpoint.Strategy]float64{}
	for _, how := range []breakpoint.Strategy{
		breakpoint.PatchedByte, breakpoint.ViewByInstruction, breakpoint.ViewEmulate, breakpoint.ViewFastStep, breakpoint.ViewTwoTrips,
	} {
		ours[how] = cost(how.String(), timeOurs(t, g, k, how, at, n))
	}
	// What Xen emulates costs up to a quarter more from one boot to the next, of ours
	// as of the C monitor's.
	if r := ours[breakpoint.PatchedByte] / c; r > mostOfCEmulated {
		t.Errorf("%v: %.3f times the C monitor's cost, want at most %v", breakpoint.PatchedByte, r, mostOfCEmulated)
	} else {
		t.Logf("%v: %.3f times the C monitor's cost", breakpoint.PatchedByte, r)
	}
	for _, how := range []breakpoint.Strategy{breakpoint.ViewByInstruction, breakpoint.ViewFastStep} {
		if r := ours[how] / c; r > mostOfC {
			t.Errorf("%v: %.3f times the C monitor's cost, want at most %v", how, r, mostOfC)
		} else {
			t.Logf("%v: %.3f times the C monitor's cost", how, r)
		}
		if r := ours[how] / ours[breakpoint.ViewTwoTrips]; r > mostOfTwoTrips {
			t.Errorf("%v: %.3f times the cost of two trips, want at most %v", how, r, mostOfTwoTrips)
		} else {
			t.Logf("%v: %.3f times the cost of two trips", how, r)
		}
	}
}

// working is the first instruction of a function that does something, and the code
// from there on: one that does nothing is skipped, not stepped over.
func (g *target) working(symbol string) (at vmi.VirtAddr, code [16]byte, err error) {
	at, err = g.kernel.Symbols().Lookup(symbol)
	if err != nil {
		return 0, code, err
	}
	for range 4 {
		if _, err := g.kernel.AddressSpace().Read(at, code[:]); err != nil {
			return 0, code, err
		}
		if strings.HasPrefix(string(code[:]), "\xf3\x0f\x1e\xfa") { // ENDBR64, which the decoder does not know
			at += 4
			continue
		}
		insn, err := x86asm.Decode(code[:], 64)
		if err != nil {
			return 0, code, err
		}
		if insn.Op != x86asm.NOP {
			return at, code, nil
		}
		at += vmi.VirtAddr(insn.Len)
	}
	return 0, code, fmt.Errorf("%s begins with nothing", symbol)
}

// timeCalls returns the microseconds that n calls take a process of the guest.
// between is called before them, when the process is there.
func timeCalls(t *testing.T, g *labtest.Guest, n int, between func()) (us int) {
	t.Helper()
	ctx := t.Context()
	// It begins when what has told it to is gone.
	calls := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload calls -kind getppid -n %d -wait /tmp/go -delay 200ms", n))
	calls.WaitLine(ctx, regexp.MustCompile(`calls ready pid=(\d+) `))
	between()
	g.MustExec(ctx, "touch /tmp/go")
	out, status := calls.Wait(ctx)
	m := regexp.MustCompile(`calls us=(\d+)`).FindStringSubmatch(out)
	if status != 0 || m == nil {
		t.Fatalf("the guest says, with status %d: %q", status, out)
	}
	us, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return us
}

// timeOurs has the breakpoint be the engine's.
func timeOurs(t *testing.T, g *labtest.Guest, k *target, how breakpoint.Strategy, at vmi.VirtAddr, n int) (us int) {
	t.Helper()
	s, stop := k.begin(t, how)
	hits := 0
	us = timeCalls(t, g, n, func() {
		_, err := s.engine.Insert(s.kernel.AddressSpace(), at, func(*xen.Request) xen.Response { hits++; return xen.Response{} })
		if err != nil {
			t.Fatal(err)
		}
	})
	stop()
	checkHits(t, how.String(), hits, n)
	return us
}

// strangers is how often others may make the call: the shell that says when to begin.
const strangers = 20

func checkHits(t *testing.T, name string, hits, n int) {
	t.Helper()
	if hits < n || hits > n+strangers {
		t.Errorf("%s: %d hits of %d calls", name, hits, n)
	}
}

// timeC has the breakpoint be the C monitor's.
func timeC(t *testing.T, g *labtest.Guest, k *target, at vmi.VirtAddr, code [16]byte, n int) (us int) {
	t.Helper()
	pa, err := k.kernel.AddressSpace().Translate(at)
	if err != nil {
		t.Fatal(err)
	}
	// It is to be there to the end, whoever else makes the call.
	const enough = 1 << 40
	var stop func() int
	us = timeCalls(t, g, n, func() {
		stop = labtest.StartC(t, fmt.Sprint(g.DomID()), fmt.Sprintf("%x", uint64(at)), fmt.Sprintf("%x", uint64(pa.GFN())),
			fmt.Sprint(uint64(enough)), fmt.Sprintf("%x", code))
	})
	checkHits(t, "the C monitor", stop(), n)
	return us
}
