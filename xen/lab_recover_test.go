//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// dieServing is a monitor of the domain that is killed, by itself, in the
// middle of an event, after it has said which vCPU waits for the answer. It
// begins to serve when it is told to. $EVENT says what events.
func dieServing() {
	err := func() error {
		h, err := xen.Open(nil)
		if err != nil {
			return err
		}
		d, err := h.LookupDomain(os.Getenv("DOMAIN"))
		if err != nil {
			return err
		}
		m, err := d.OpenMonitor(nil)
		if err != nil {
			return err
		}
		let := 0
		switch os.Getenv("EVENT") {
		case "filtered cr3": // everything passes, once the values are there
			o := xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 1<<32 - 1}
			err = errors.Join(m.SetCR3Filter(o), m.AddCR3(0), m.EnableCtrlReg(xen.CR3, nil))
			let = 100
		case "cr3":
			err = m.EnableCtrlReg(xen.CR3, nil)
			let = 100
		case "int3":
			err = m.EnableSoftwareBreakpoint()
		}
		if err != nil {
			return err
		}
		fmt.Println("attached")
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return err
		}
		events := 0
		return m.Serve(context.Background(), func(r *xen.Request) xen.Response {
			if events++; events > let {
				fmt.Printf("vcpu %d\n", r.VCPU)
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return xen.Response{}
		})
	}()
	fmt.Println(err)
	os.Exit(1)
}

// killServing runs dieServing to its end and returns the vCPU that waits.
// attached, if not nil, is called when the monitor is there and before it
// serves; it must not need an answer.
func killServing(t *testing.T, g *labtest.Guest, event string, attached func()) xen.VCPU {
	t.Helper()
	cmd := child("die serving", "DOMAIN="+g.Name(), "EVENT="+event)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	var line string
	if _, err := fmt.Fscanln(r, &line); err != nil || line != "attached" {
		t.Fatalf("the monitor says %q, %v", line, err)
	}
	if attached != nil {
		attached()
	}
	if _, err := fmt.Fprintln(in); err != nil {
		t.Fatal(err)
	}
	var v xen.VCPU
	if _, err := fmt.Fscanf(r, "vcpu %d\n", &v); err != nil {
		t.Fatalf("the monitor: %v", err)
	}
	var ws syscall.WaitStatus
	if err := cmd.Wait(); err == nil {
		t.Fatal("the monitor ended by itself")
	} else if ws = cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the monitor: %v", err)
	}
	return v
}

// A guest at work loses its monitor in the middle of an event. Recovered, it
// works on, and can be monitored again.
func TestLabRecoverMonitor(t *testing.T) {
	g := labtest.StartGuest(t, guest.Spec{MemoryMiB: 128})
	d := lookup(t, g)
	const n = 2000
	busy := g.Start(t.Context(), "exec workload cr3switch -n 100000000")
	busy.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
	for round := range 3 {
		work := g.Start(t.Context(), fmt.Sprintf("exec workload cr3switch -n %d -wait /tmp/go", n))
		work.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
		killServing(t, g, "cr3", func() {
			// A live monitor is left alone.
			err := d.RecoverMonitor(nil)
			if !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "its monitor is alive") {
				t.Errorf("round %d: RecoverMonitor beside a live monitor: %v", round, err)
			}
		})
		if _, err := d.OpenMonitor(nil); !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "RecoverMonitor") {
			t.Errorf("round %d: OpenMonitor: %v", round, err)
		}
		leaked := 0
		if round > 0 { // as if it had been killed while it paused the guest
			leaked = round
			for range leaked {
				if err := d.Pause(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := d.RecoverMonitor(nil); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if info, err := d.Info(); err != nil || info.Paused {
			t.Errorf("round %d: with %d leaked pauses: %+v, %v", round, leaked, info, err)
		}
		g.MustExec(t.Context(), "touch /tmp/go")
		out, status := work.Wait(t.Context())
		if status != 0 || !strings.Contains(out, fmt.Sprintf("cr3switch n=%d ", n)) {
			t.Errorf("round %d: status %d, output %q", round, status, out)
		}
		g.MustExec(t.Context(), "rm /tmp/go")

		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		events := 0
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := m.Serve(ctx, func(*xen.Request) xen.Response { events++; return xen.Response{} }); err != context.Canceled {
				t.Errorf("round %d: Serve: %v", round, err)
			}
		})
		if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
			t.Error(err)
		}
		g.MustExec(t.Context(), "(true)")
		cancel()
		wg.Wait()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if events == 0 {
			t.Errorf("round %d: the next monitor saw nothing", round)
		}
		g.MustExec(t.Context(), "true")
	}
	g.MustExec(t.Context(), fmt.Sprintf("kill -9 %d", busy.PID()))
	// A domain that needs none of it.
	if err := d.RecoverMonitor(&xen.RecoverOptions{AltP2MOff: true}); err != nil {
		t.Error(err)
	}
	g.MustExec(t.Context(), "true")
}

// Of two vCPUs only the one whose event nobody answers stands still; the guest
// does what it can do with the other. Both run after the recovery.
func TestLabRecoverOneVCPU(t *testing.T) {
	if n, err := hostCPUs(t); err != nil {
		t.Fatal(err)
	} else if n < 2 {
		t.Skip("guests of two vCPUs do not run on this machine's one CPU")
	}
	g := labtest.StartGuest(t, guest.Spec{MemoryMiB: 128, VCPUs: 2})
	d := lookup(t, g)
	const n = 50
	work := g.Start(t.Context(), fmt.Sprintf("exec workload int3 -n %d -wait /tmp/go", n))
	work.WaitLine(t.Context(), regexp.MustCompile(`int3 ready`))
	spin := g.Start(t.Context(), "while :; do :; done") // something to run for the other
	v := killServing(t, g, "int3", func() { g.Start(t.Context(), "touch /tmp/go") })

	// A vCPU that runs has other registers now and then.
	moved := map[xen.VCPU]bool{}
	var first [2]xen.Registers
	for i := range 20 {
		for u := range xen.VCPU(2) {
			r, err := d.Registers(u)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first[u] = *r
			}
			moved[u] = moved[u] || *r != first[u]
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("the event was vCPU %d's; vCPU 0 ran: %v, vCPU 1 ran: %v", v, moved[0], moved[1])
	if v > 1 || moved[v] || !moved[1-v] {
		t.Errorf("vCPU %d waits for its answer; vCPU 0 ran: %v, vCPU 1 ran: %v", v, moved[0], moved[1])
	}

	// The breakpoint is the guest's own, and without a monitor it gets it.
	if err := d.RecoverMonitor(nil); err != nil {
		t.Fatal(err)
	}
	g.MustExec(t.Context(), "kill -9 "+strconv.Itoa(spin.PID()))
	out, status := work.Wait(t.Context())
	if status != 0 || !strings.Contains(out, fmt.Sprintf("int3 n=%d ", n)) {
		t.Errorf("status %d, output %q", status, out)
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// hostCPUs is how many processors the machine has.
func hostCPUs(t *testing.T) (int, error) {
	t.Helper()
	out, err := exec.Command("xl", "info", "nr_cpus").Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}
