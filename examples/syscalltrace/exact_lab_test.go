//go:build lab

package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// A process makes exactly n calls while two others make the same ones; the
// trace has exactly n lines, all of that process.
func TestLabExact(t *testing.T) {
	exact(t, shared, labtest.Count(20000), "")
}

// The same on two vCPUs, with the process moving from one to the other all the
// time.
func TestLabExactSMP(t *testing.T) {
	out, err := exec.Command("xl", "info", "nr_cpus").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(out)) == "1" {
		t.Skip("the VMX lane's emulator runs guests of one vCPU only")
	}
	exact(t, guest.Spec{KASLR: true, VCPUs: 2}, labtest.Count(5000), "-migrate")
}

func exact(t *testing.T, spec guest.Spec, n int, how string) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, spec)
	labtest.Intact(t, g)
	// They have little of the CPU, so that the test ends; calls they make all the same.
	var neighbours []*labtest.Command
	for range 2 {
		neighbours = append(neighbours, g.Start(ctx, "exec workload busy -nice 19 -kinds pread64,getuid -spin 100000"))
	}
	c, pid := caller(t, g, "pread64", n, how)
	tr := start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid), "-e", "pread64")
	g.MustExec(ctx, "touch /tmp/go")
	out, status := c.Wait(ctx)
	if want := fmt.Sprintf("calls kind=pread64 n=%d pid=%d", n, pid); status != 0 || !strings.Contains(out, want) {
		t.Errorf("the guest says, with status %d: %q; want %q", status, out, want)
	}
	trace := tr.Lossless()
	for _, b := range neighbours {
		g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", b.PID()))
		if out, status := b.Wait(ctx); status != 0 {
			t.Errorf("a neighbour ended with status %d: %s", status, out)
		}
	}
	lines := count(trace, `^workload\[\d+\] (pread64\(\d+, |<\.\.\. pread64 resumed>)"[^"]+", 16, 0\) = \d+$`)
	// A line may be cut in two where threads interleave.
	cut := count(trace, `<unfinished \.\.\.>$`)
	exited := count(trace, `\+\+\+ exited with 0 \+\+\+$`)
	if all := strings.Count(trace, "\n"); lines != n || all != lines+cut+exited {
		t.Errorf("%d calls in %d lines (%d cut, %d exits), want %d calls", lines, all, cut, exited, n)
	}
	t.Logf("%d calls in the guest, %d in the trace; %s", n, lines, strings.TrimSpace(tr.Msg.String()))
}
