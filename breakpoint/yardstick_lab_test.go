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
	mostOfC        = 1.1
	mostOfTwoTrips = 0.6
	// What is emulated takes a tenth more or less from one time to the next, of ours as
	// of C's: 1.01 to 1.12 were measured.
	mostOfCEmulated = 1.2
)

// A hit costs the guest little more than with the plainest monitor that can be
// written in C, which does nothing else, and not much more than half of one that
// is stepped over in two trips. All are of the same instruction of one process, by the
// guest's clock, which counts instructions in the VMX lane. What the calls take without
// a monitor is not counted.
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
	strategies := []breakpoint.Strategy{
		breakpoint.PatchedByte, breakpoint.ViewByInstruction, breakpoint.ViewEmulate, breakpoint.ViewFastStep, breakpoint.ViewTwoTrips,
	}
	caller := startCaller(t, g, n, 2+len(strategies))
	unmonitored := caller.round(t)
	t.Logf("%d calls, unmonitored: %.2f us each", n, float64(unmonitored)/float64(n))
	cost := func(name string, us int) float64 {
		c := float64(us-unmonitored) / float64(n)
		t.Logf("%d hits, %s: %.2f us of the guest's time each, with the call %.2f us", n, name, c, float64(us)/float64(n))
		if c <= 0 {
			t.Errorf("%s costs nothing: it was not hit", name)
		}
		return c
	}
	c := cost("the C monitor", timeC(t, caller, k, at, code))
	ours := map[breakpoint.Strategy]float64{}
	for _, how := range strategies {
		ours[how] = cost(how.String(), timeOurs(t, caller, k, how, at))
	}
	for _, how := range []breakpoint.Strategy{breakpoint.PatchedByte, breakpoint.ViewByInstruction, breakpoint.ViewFastStep} {
		most := mostOfC
		if how == breakpoint.PatchedByte {
			most = mostOfCEmulated
		}
		if r := ours[how] / c; r > most {
			t.Errorf("%v: %.3f times the C monitor's cost, want at most %v", how, r, most)
		} else {
			t.Logf("%v: %.3f times the C monitor's cost", how, r)
		}
	}
	for _, how := range []breakpoint.Strategy{breakpoint.ViewByInstruction, breakpoint.ViewFastStep} {
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

// A caller is a process of the guest that makes n calls in each round.
type caller struct {
	guest   *labtest.Guest
	command *labtest.Command
	n, next int
}

// startCaller returns when the process is there. It ends after its last round.
func startCaller(t *testing.T, g *labtest.Guest, n, rounds int) *caller {
	t.Helper()
	ctx := t.Context()
	command := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go.*; exec workload rounds -kind getppid -n %d -rounds %d -wait /tmp/go -delay 200ms", n, rounds))
	command.WaitLine(ctx, regexp.MustCompile(`rounds ready`))
	return &caller{guest: g, command: command, n: n}
}

// round returns the microseconds that the calls of a round take. They begin when
// the guest's process that has told it to is gone.
func (c *caller) round(t *testing.T) (us int) {
	t.Helper()
	c.guest.MustExec(t.Context(), fmt.Sprintf("touch /tmp/go.%d", c.next))
	m := c.command.WaitLine(t.Context(), regexp.MustCompile(fmt.Sprintf(`round %d us=(\d+)`, c.next)))
	c.next++
	us, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return us
}

// timeOurs has the breakpoint be the engine's.
func timeOurs(t *testing.T, c *caller, k *target, how breakpoint.Strategy, at vmi.VirtAddr) (us int) {
	t.Helper()
	s, stop := k.begin(t, how)
	hits := 0
	_, err := s.engine.Insert(s.kernel.AddressSpace(), at, func(*xen.Request) xen.Response { hits++; return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	us = c.round(t)
	stop()
	checkHits(t, how.String(), hits, c.n)
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
func timeC(t *testing.T, c *caller, k *target, at vmi.VirtAddr, code [16]byte) (us int) {
	t.Helper()
	pa, err := k.kernel.AddressSpace().Translate(at)
	if err != nil {
		t.Fatal(err)
	}
	// It is to be there to the end, whoever else makes the call.
	const enough = 1 << 40
	stop := labtest.StartC(t, fmt.Sprint(c.guest.DomID()), fmt.Sprintf("%x", uint64(at)), fmt.Sprintf("%x", uint64(pa.GFN())),
		fmt.Sprint(uint64(enough)), fmt.Sprintf("%x", code))
	us = c.round(t)
	checkHits(t, "the C monitor", stop(), c.n)
	return us
}
