//go:build lab

package cr3filter_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Two processes hand a byte to each other n times, beside a third that is
// busy. Each round trip on one vCPU is at least one switch to either process;
// no switch is reported that concerns neither.
func TestLabSwitchesAmongProcesses(t *testing.T) {
	const n = 300
	ctx := t.Context()
	g := labtest.SharedGuest(t, guest.Spec{KASLR: true})
	pair := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload cr3switch -n %d -wait /tmp/go", n))
	pids := pair.WaitLine(ctx, regexp.MustCompile(`cr3switch ready pids=(\d+),(\d+)`))[1:]
	busy := g.Start(ctx, "exec workload busy")

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
	ignore := cr3filter.IgnorePCID
	if kernel.KPTI() {
		ignore = cr3filter.IgnoreKPTI
	}

	mon, err := dom.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mon.Close()
	roots := map[vmi.PhysAddr]int{}
	var entered [2]int
	strangers := 0
	filter := cr3filter.New(mon, ignore, func(s cr3filter.Switch) {
		to, isTo := roots[s.To]
		if _, isFrom := roots[s.From]; !isFrom && !isTo {
			strangers++
		}
		if isTo {
			entered[to]++
		}
	})
	for i, pid := range pids {
		id, err := strconv.ParseInt(pid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		task, err := kernel.TaskByPID(int32(id))
		if err != nil {
			t.Fatal(err)
		}
		root, err := task.Root()
		if err != nil {
			t.Fatal(err)
		}
		roots[root.Root()] = i
		filter.Watch(root)
	}
	loop := vmi.NewLoop(mon)
	var all atomic.Int64
	err = loop.OnCtrlReg(xen.CR3, func(r *xen.Request) xen.Response {
		all.Add(1)
		return filter.Handle(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := filter.Start(); err != nil {
		t.Fatal(err)
	}
	serve, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- loop.Run(serve) }()

	g.MustExec(ctx, "touch /tmp/go")
	if out, status := pair.Wait(ctx); status != 0 {
		t.Errorf("the pair ended with status %d: %s", status, out)
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	busy.Wait(ctx)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("loop: %v", err)
	}
	if err := filter.Stop(); err != nil {
		t.Error(err)
	}
	stats := filter.Stats()
	if entered[0] < n || entered[1] < n || strangers != 0 {
		t.Errorf("%d and %d switches to the two processes, want at least %d each; %d switches concern neither", entered[0], entered[1], n, strangers)
	}
	if stats.Seen != uint64(all.Load()) || stats.Forwarded < 2*n {
		t.Errorf("%+v; the loop saw %d writes", stats, all.Load())
	}
	t.Logf("KPTI %v: %d and %d switches to the two processes, %+v", kernel.KPTI(), entered[0], entered[1], stats)
}
