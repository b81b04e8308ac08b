//go:build lab

package breakpoint_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// spin is how far the guest's process computes between its calls.
const spin = 10000

// Monitors come and go while a process computes: breakpoints in a view, whose
// instruction Xen emulates, has the vCPU execute alone, or does so with an event, in
// turn, are hit until the moment of detaching. The process notices nothing: what it
// computes is right.
func TestLabViewCycles(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("Xen has no views on AMD")
	}
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	busy := g.Start(ctx, fmt.Sprintf("exec workload busy -kinds getppid -spin %d", spin))
	hyp, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hyp.Close()
	dom, err := hyp.LookupDomain(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	regs, err := dom.AllRegisters()
	if err != nil {
		t.Fatal(err)
	}
	mem := vmi.NewMemory(vmi.MapperFunc(dom.MapFrames), nil)
	defer mem.Close()
	kernel, err := linux.Open(mem, regs)
	if err != nil {
		t.Fatal(err)
	}
	// The first monitor takes the ring's page from the guest, for good.
	hits, err := cycle(ctx, dom, kernel, breakpoint.ViewEmulate)
	if err != nil {
		t.Fatal(err)
	}
	before, err := dom.Info()
	if err != nil {
		t.Fatal(err)
	}
	ways := []breakpoint.Strategy{breakpoint.ViewFastStep, breakpoint.ViewEmulate, breakpoint.ViewTwoTrips}
	for i := range labtest.Count(300) {
		n, err := cycle(ctx, dom, kernel, ways[i%len(ways)])
		if err != nil {
			t.Fatal(err)
		}
		hits += n
	}
	after, err := dom.Info()
	if err != nil {
		t.Fatal(err)
	}
	if hits == 0 || after.Pages != before.Pages {
		t.Errorf("%d hits; the guest had %d pages before and has %d", hits, before.Pages, after.Pages)
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	out, status := busy.Wait(ctx)
	m := regexp.MustCompile(`busy end pid=\d+ rounds=(\d+) sum=([0-9a-f]+)`).FindStringSubmatch(out)
	if status != 0 || m == nil {
		t.Fatalf("the guest's process ended with status %d: %s", status, out)
	}
	rounds, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", computed(rounds*spin)); m[2] != want {
		t.Errorf("the guest's process computed %s in %d rounds, want %s", m[2], rounds, want)
	}
	t.Logf("%d hits, %d rounds", hits, rounds)
}

// cycle attaches, waits for some hits, and detaches. The loop ends first, so that
// hits are on their way then.
func cycle(ctx context.Context, dom *xen.Domain, kernel *linux.Kernel, how breakpoint.Strategy) (hits int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mon, err := dom.OpenMonitor(nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, mon.Close()) }()
	views, err := breakpoint.OpenViews(dom, vmi.MapperFunc(dom.MapFrames), &breakpoint.ViewsOptions{Strategy: how})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, views.Close()) }()
	engine, err := views.NewEngine(dom)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	loop := vmi.NewLoop(mon)
	err = errors.Join(
		loop.OnSoftwareBreakpoint(engine.Handle),
		loop.OnMemAccess(views.HandleMemAccess),
		loop.OnSingleStep(views.HandleSingleStep),
		mon.EnableSingleStep(),
		mon.EnableSoftwareBreakpoint())
	if err != nil {
		return 0, err
	}
	served := 0
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	defer func() {
		cancel()
		rerr := <-done
		hits = served
		if !errors.Is(rerr, context.Canceled) {
			err = errors.Join(err, rerr)
		}
	}()
	va, err := kernel.Symbols().Lookup("do_syscall_64")
	if err != nil {
		return 0, err
	}
	_, err = engine.Insert(kernel.AddressSpace(), va, func(*xen.Request) xen.Response {
		served++
		return xen.Response{}
	})
	if err != nil {
		return 0, err
	}
	if err := views.Switch(engine.View()); err != nil {
		return 0, err
	}
	time.Sleep(50 * time.Millisecond)
	return 0, nil
}

// computed is what the workload's busy has after n steps.
func computed(n int) uint64 {
	sum := uint64(1)
	for range n {
		sum = sum*6364136223846793005 + 1442695040888963407
	}
	return sum
}
