//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

var freeHeap = regexp.MustCompile(`Dom heap: (\d+)kB free`)

// xenHeap asks Xen how much of its memory is free, in KiB.
func xenHeap(t *testing.T) int {
	t.Helper()
	if out, err := exec.Command("xl", "debug-keys", "m").CombinedOutput(); err != nil {
		t.Fatalf("xl debug-keys: %v: %s", err, out)
	}
	out, err := exec.Command("xl", "dmesg", "-c").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := freeHeap.FindAllSubmatch(out, -1)
	if all == nil {
		t.Fatalf("Xen does not tell its free memory: %s", out)
	}
	kib, err := strconv.Atoi(string(all[len(all)-1][1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// Filters that come and go while the guest works leave Xen's memory as it was.
func TestLabCR3FilterChurn(t *testing.T) {
	ctx := t.Context()
	g := sharedGuest(t)
	d := lookup(t, g)
	m, _ := filterMonitor(t, d)
	busy := g.Start(ctx, "exec workload busy")
	if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
		t.Fatal(err)
	}
	serve, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	events := 0
	go func() {
		done <- m.Serve(serve, func(*xen.Request) xen.Response { events++; return xen.Response{} })
	}()
	// The first round makes what stays: tables of the domain's own.
	round := func() error {
		return errors.Join(
			m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMember, Mask: 0x1fff}),
			m.AddCR3(0x1000000), m.AddCR3(0x2000000), m.RemoveCR3(0x1000000), m.ClearCR3(),
			m.SetCR3Filter(xen.CR3FilterOptions{}))
	}
	if err := round(); err != nil {
		t.Fatal(err)
	}
	before := xenHeap(t)
	rounds := labtest.Count(10000)
	for i := range rounds {
		if err := round(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	after := xenHeap(t)
	// The guest has work to do yet, and nobody will answer.
	if err := m.DisableCtrlReg(xen.CR3); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// One that came before the events ended.
	if _, err := m.Drain(); err != nil {
		t.Error(err)
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(ctx); status != 0 {
		t.Errorf("the guest's process ended with status %d: %s", status, out)
	}
	// With page-table isolation, as in the VMX lane, one process writes CR3 often.
	if after != before || labtest.VMX() && events == 0 {
		t.Errorf("%d KiB free in Xen, before %d; %d events", after, before, events)
	}
	t.Logf("%d rounds beside %d events: %d KiB free in Xen before and %d after", rounds, events, before, after)
}
