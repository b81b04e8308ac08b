//go:build lab

package xen_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/internal/lab/wire"
	"github.com/govmi/govmi/xen"
)

// A fork is what its parent is: each register, and the memory, which either has for
// itself once it is written to. It runs, and a reset makes it the parent again.
func TestLabFork(t *testing.T) {
	if !labtest.VMX() || os.Getenv(wire.XenVar) != wire.XenFlask {
		t.Skip("forks take an Intel processor and a Xen with CONFIG_MEM_SHARING, which Debian's is not: lab test -lane vmx -xen flask")
	}
	// Xen's reference policy lets nobody share memory.
	dom0(t, "xl", "setenforce", "0")
	t.Cleanup(func() { dom0(t, "xl", "setenforce", "1") })
	g := sharedGuest(t)
	busy := g.Start(t.Context(), "exec workload busy -kinds getppid -spin 1000")
	busy.WaitLine(t.Context(), regexp.MustCompile(`busy ready`))
	parent := lookup(t, g)

	id, err := strconv.Atoi(strings.TrimSpace(dom0(t, "emptydomain", "create", "1")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		dom0(t, "emptydomain", "destroy", fmt.Sprint(id))
		g.MustExec(t.Context(), fmt.Sprintf("kill -TERM %d", busy.PID()))
		if out, status := busy.Wait(t.Context()); status != 0 {
			t.Errorf("the parent's process ended with status %d: %s", status, out)
		}
	}()
	child, err := open(t).Domain(xen.DomID(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := child.ResetFork(xen.ForkReset{State: true, Memory: true}); err == nil {
		t.Error("a domain that is no fork was reset")
	}
	begin := time.Now()
	if err := child.Fork(parent.ID(), &xen.ForkOptions{BlockInterrupts: true}); err != nil {
		t.Fatal(err)
	}
	t.Logf("forked in %v", time.Since(begin))
	sameRegisters := func(what string) {
		t.Helper()
		if d := cmp.Diff(registersOf(t, parent), registersOf(t, child)); d != "" {
			t.Errorf("%s: registers (-parent +child):\n%s", what, d)
		}
	}
	sameRegisters("forked")
	regs := registersOf(t, parent)
	var gfns []xen.GFN
	for i := range xen.GFN(2000) {
		gfns = append(gfns, 0x1000+8*i)
	}
	gfns = append(gfns, xen.GFN(regs.CR3>>xen.PageShift), frameOf(t, parent, regs.CR3, regs.LSTAR))
	if n := sameMemory(t, parent, child, gfns); n < 1000 {
		t.Errorf("only %d frames are there to compare", n)
	} else {
		t.Logf("%d frames are the same", n)
	}

	// What is written to the child's memory is the child's.
	at := gfns[:1]
	before := frame(t, parent, at[0])
	f, err := child.MapFrames(at, true)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Frame(0)
	if err != nil {
		t.Fatal(err)
	}
	b[17] ^= 0xff
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if after := frame(t, parent, at[0]); after != before {
		t.Error("a write to the child's memory changed the parent's")
	}
	if after := frame(t, child, at[0]); after == before {
		t.Error("the write is gone")
	}
	if err := child.ResetFork(xen.ForkReset{Memory: true}); err != nil {
		t.Fatal(err)
	}
	sameMemory(t, parent, child, at)

	// It runs, whatever for without a clock, and leaves the parent alone.
	still := registersOf(t, parent)
	if err := child.Unpause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := child.Pause(); err != nil {
		t.Fatal(err)
	}
	info, err := child.Info()
	if err != nil || info.CPUTime == 0 || info.Pages == 0 {
		t.Errorf("the child has run for %v and has %d pages of its own, %v", info.CPUTime, info.Pages, err)
	}
	t.Logf("the child has run for %v, and has %d pages of its own", info.CPUTime, info.Pages)
	if d := cmp.Diff(registersOf(t, child), still); d == "" {
		t.Error("the child stands where it stood")
	}
	if d := cmp.Diff(still, registersOf(t, parent)); d != "" {
		t.Errorf("the parent ran (-before +now):\n%s", d)
	}
	if err := child.ResetFork(xen.ForkReset{State: true, Memory: true}); err != nil {
		t.Fatal(err)
	}
	sameRegisters("reset")
	sameMemory(t, parent, child, gfns)
}

// dom0 runs a program in dom0.
func dom0(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func registersOf(t *testing.T, d *xen.Domain) *xen.Registers {
	t.Helper()
	r, err := d.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// frame is what is in a frame of a domain.
func frame(t *testing.T, d *xen.Domain, gfn xen.GFN) string {
	t.Helper()
	f, err := d.MapFrames([]xen.GFN{gfn}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := f.Frame(0)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sameMemory compares the frames that the parent has, and returns how many.
func sameMemory(t *testing.T, parent, child *xen.Domain, gfns []xen.GFN) (n int) {
	t.Helper()
	mine, err := parent.MapFrames(gfns, false)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	theirs, err := child.MapFrames(gfns, false)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for i := range gfns {
		a, err := mine.Frame(i)
		if err != nil {
			continue
		}
		b, err := theirs.Frame(i)
		if err != nil {
			t.Errorf("frame %v of the child: %v", gfns[i], err)
			continue
		}
		if n++; string(a) != string(b) {
			t.Errorf("frame %v differs", gfns[i])
		}
	}
	return n
}
