//go:build lab

package breakpoint_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// spin is how far the guest's process computes between its calls.
const spin = 10000

// Monitors come and go while a process computes: breakpoints in a view, whose
// instruction Xen emulates, has the vCPU execute alone, or does so with an event, in
// turn, or patched bytes where there are no views. As long as one is there it is hit
// as often as the process says that it has made the call. The process notices
// nothing: what it computes is right. Nothing of Xen's or dom0's memory is kept.
func TestLabCycles(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	busy := g.Start(ctx, fmt.Sprintf("exec workload busy -counter -kinds getppid -spin %d", spin))
	m := busy.WaitLine(ctx, regexp.MustCompile(`busy counter=0x([0-9a-f]+) pid=(\d+)`))
	busy.WaitLine(ctx, regexp.MustCompile(`busy ready pid=`))
	va, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(m[2])
	if err != nil {
		t.Fatal(err)
	}
	k, err := openTarget(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	counter, err := k.counter(int32(pid), vmi.VirtAddr(va))
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	ways := []breakpoint.Strategy{breakpoint.PatchedByte}
	if labtest.VMX() {
		ways = []breakpoint.Strategy{breakpoint.ViewFastStep, breakpoint.ViewEmulate, breakpoint.ViewTwoTrips}
	}
	// The first monitor takes the ring's page from the guest, for good.
	if _, err := k.cycle(ctx, ways[0], counter); err != nil {
		t.Fatal(err)
	}
	before := k.memory(t)
	full, known, hits := 1, 12, 0
	if labtest.Soak() {
		full, known = 20, 1000
	}
	for i := range full + known {
		one := k
		if i < full { // with all that is to be known of the kernel found anew
			if one, err = openTarget(g.Name()); err != nil {
				t.Fatal(err)
			}
		}
		n, err := one.cycle(ctx, ways[i%len(ways)], counter)
		if one != k {
			err = errors.Join(err, one.Close())
		}
		if err != nil {
			t.Fatalf("cycle %d, %v: %v", i, ways[i%len(ways)], err)
		}
		hits += n
	}
	after := k.memory(t)
	if after.guest != before.guest || after.limit != before.limit {
		t.Errorf("the guest had %d pages of %d before and has %d of %d", before.guest, before.limit, after.guest, after.limit)
	}
	if lost := int64(before.xen) - int64(after.xen); lost > int64(full+known)/10 {
		t.Errorf("Xen had %d pages free before and has %d", before.xen, after.xen)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	out, status := busy.Wait(ctx)
	m = regexp.MustCompile(`busy end pid=\d+ rounds=(\d+) sum=([0-9a-f]+)`).FindStringSubmatch(out)
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
	t.Logf("%d hits in %d cycles and %d with the kernel found anew; the process made %d calls; free for Xen %d pages, then %d",
		hits, known, full, rounds, before.xen, after.xen)
}

// memory is how many pages there are.
type memory struct{ guest, limit, xen uint64 }

func (g *target) memory(t *testing.T) memory {
	t.Helper()
	info, err := g.dom.Info()
	if err != nil {
		t.Fatal(err)
	}
	host, err := g.hyp.Host()
	if err != nil {
		t.Fatal(err)
	}
	return memory{info.Pages, info.MaxPages, host.Free}
}

// counter is where the process says how many calls it has made.
type counter struct {
	vmi.Frames
	bytes []byte
}

func (c *counter) value() uint64 { return binary.LittleEndian.Uint64(c.bytes) }

// counter maps the number at an address of a process.
func (g *target) counter(pid int32, va vmi.VirtAddr) (*counter, error) {
	task, err := g.kernel.TaskByPID(pid)
	if err != nil {
		return nil, err
	}
	space, err := task.AddressSpace()
	if err != nil {
		return nil, err
	}
	pa, err := space.Translate(va)
	if err != nil {
		return nil, err
	}
	f, err := g.dom.MapFrames([]xen.GFN{pa.GFN()}, false)
	if err != nil {
		return nil, err
	}
	page, err := f.Frame(0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &counter{f, page[pa.Offset():][:8]}, nil
}

// cycle attaches, waits for some hits, and detaches. The loop ends first, so that
// hits are on their way then. The process is the only one that makes the call.
func (g *target) cycle(ctx context.Context, how breakpoint.Strategy, made *counter) (hits int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := g.attach(how)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	done := make(chan error, 1)
	go func() { done <- s.loop.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	defer func() { err = errors.Join(err, stop()) }()
	var served atomic.Int64
	if err := s.insert(getppid, func(*xen.Request) xen.Response { served.Add(1); return xen.Response{} }); err != nil {
		return 0, err
	}
	// A call is on its way at each of the two moments, or is not.
	look := func() (calls, hits uint64, err error) {
		if err := g.dom.Pause(); err != nil {
			return 0, 0, err
		}
		calls, hits = made.value(), uint64(served.Load())
		return calls, hits, g.dom.Unpause()
	}
	calls0, hits0, err := look()
	if err != nil {
		return 0, err
	}
	time.Sleep(50 * time.Millisecond)
	calls, n, err := look()
	if err != nil {
		return 0, err
	}
	switch got, want := int64(n-hits0), int64(calls-calls0); {
	case got < want-1, got > want+1:
		return 0, fmt.Errorf("%d hits of %d calls", got, want)
	case want == 0:
		return 0, errors.New("the process made no call")
	}
	if err := stop(); err != nil {
		return 0, err
	}
	return int(n), nil
}

// computed is what the workload's busy has after n steps.
func computed(n int) uint64 {
	sum := uint64(1)
	for range n {
		sum = sum*6364136223846793005 + 1442695040888963407
	}
	return sum
}
