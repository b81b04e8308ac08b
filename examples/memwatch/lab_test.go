//go:build lab

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// mainVar makes the test binary the program itself.
const mainVar = "GOVMI_MEMWATCH_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

// watching runs the program until stop is called, which returns the accesses.
func watching(t *testing.T, g *labtest.Guest, args ...string) (stop func() []access) {
	t.Helper()
	p := sessiontest.Start(t, "watching", func(ctx context.Context, out, msg io.Writer) int {
		return run(ctx, nil, append([]string{"-domain", g.Name(), "-json"}, args...), out, msg)
	})
	return func() (all []access) {
		t.Helper()
		p.Stop()
		out := p.Wait()
		t.Log(strings.TrimSpace(p.Msg.String()))
		for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
			var a access
			if err := d.Decode(&a); err != nil {
				t.Fatal(err)
			}
			all = append(all, a)
		}
		return all
	}
}

// frame is where in memory a process has an address.
func frame(t *testing.T, g *labtest.Guest, pid int32, va uint64) vmi.PhysAddr {
	t.Helper()
	hyp, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hyp.Close()
	dom, err := hyp.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	regs, err := dom.AllRegisters()
	if err != nil {
		t.Fatal(err)
	}
	mem := vmi.NewMemory(vmi.MapperFunc(dom.MapFrames), nil)
	defer mem.Close()
	k, err := linux.Open(mem, regs)
	if err != nil {
		t.Fatal(err)
	}
	task, err := k.TaskByPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	space, err := task.AddressSpace()
	if err != nil {
		t.Fatal(err)
	}
	pa, err := space.Translate(vmi.VirtAddr(va))
	if err != nil {
		t.Fatal(err)
	}
	return pa
}

// The accesses of a process to a number are seen as often as it says that it made
// them, and none of those to what lies beside it; in a view and without.
func TestLabMemWatch(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	if !labtest.VMX() {
		var out, msg bytes.Buffer
		if status := run(ctx, nil, []string{"-domain", g.Name(), "-symbol", "panic_timeout"}, &out, &msg); status != 1 || strings.Count(msg.String(), "\n") != 1 {
			t.Errorf("on AMD: status %d, %q", status, msg.String())
		}
		t.Log(msg.String())
		g.MustExec(ctx, "true")
		return
	}
	labtest.Intact(t, g)
	ways := [][]string{nil, {"-noviews"}}
	writes, reads := labtest.Count(1000), labtest.Count(500)
	for _, how := range ways {
		c := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go /tmp/end; exec workload memory -writes %d -reads %d -beside %d -wait /tmp/go -hold /tmp/end", writes, reads, reads))
		m := c.WaitLine(ctx, regexp.MustCompile(`memory ready pid=(\d+) addr=0x([0-9a-f]+)`))
		pid, _ := strconv.ParseInt(m[1], 10, 32)
		va, _ := strconv.ParseUint(m[2], 16, 64)
		at := frame(t, g, int32(pid), va)
		stop := watching(t, g, append([]string{"-gfn", fmt.Sprint(uint64(at.GFN())), "-offset", fmt.Sprint(at.Offset()), "-len", "8", "-access", "rw"}, how...)...)
		g.MustExec(ctx, "touch /tmp/go")
		c.WaitLine(ctx, regexp.MustCompile(fmt.Sprintf(`memory writes=%d reads=%d beside=%d pid=%d`, writes, reads, reads, pid)))
		got := map[string]int{}
		for _, a := range stop() {
			if a.PID != int32(pid) || a.Comm != "workload" || a.Bytes != 8 || a.By != "" || a.Address != fmt.Sprintf("%#x", va) {
				t.Errorf("%+v", a)
			}
			got[a.Access]++
		}
		if got["write"] != writes || got["read"] != reads || len(got) != 2 {
			t.Errorf("%q: seen %v, the guest made %d writes and %d reads", how, got, writes, reads)
		}
		g.MustExec(ctx, "touch /tmp/end")
		if out, status := c.Wait(ctx); status != 0 {
			t.Errorf("the guest says, with status %d: %s", status, out)
		}
	}
}

// A number of the kernel's is written once for each write to its file.
func TestLabMemWatchKernel(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("restricting access to memory needs an Intel processor")
	}
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	const n = 5
	stop := watching(t, g, "-symbol", "panic_timeout", "-len", "4")
	out := g.MustExec(ctx, "for i in 5 4 3 2 0; do echo $i >/proc/sys/kernel/panic; done; cat /proc/sys/kernel/panic")
	if !strings.HasSuffix(out, "0\n") {
		t.Errorf("the guest says %q", out)
	}
	all := stop()
	for _, a := range all {
		if a.Comm != "bash" || a.Access != "write" || a.Bytes != 4 || a.Symbol != "panic_timeout" || a.By == "" {
			t.Errorf("%+v", a)
		}
	}
	if len(all) != n {
		t.Errorf("%d writes, the guest made %d", len(all), n)
	}
}

// The program is killed while a process of the guest stands before a closed frame.
// A recovery lets it go on, with its number right and the frame open, and the next
// one sees all.
func TestLabMemWatchKilled(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("restricting access to memory needs an Intel processor")
	}
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	dom, err := h.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	const writes, seen = 5000, 20
	for i := range 2 * labtest.Count(10) {
		views := i%2 == 0
		var how []string
		if !views {
			how = []string{"-noviews"}
		}
		c := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go /tmp/end; exec workload memory -writes %d -reads %d -wait /tmp/go -hold /tmp/end", writes, writes))
		m := c.WaitLine(ctx, regexp.MustCompile(`memory ready pid=(\d+) addr=0x([0-9a-f]+)`))
		pid, _ := strconv.ParseInt(m[1], 10, 32)
		va, _ := strconv.ParseUint(m[2], 16, 64)
		at := frame(t, g, int32(pid), va)
		p := sessiontest.Itself(t, mainVar, append(how, "-domain", g.Name(), "-gfn", fmt.Sprint(uint64(at.GFN())), "-offset", fmt.Sprint(at.Offset()), "-len", "8", "-access", "rw")...)
		p.Msg.Await(t, "watching", 1)
		g.MustExec(ctx, "touch /tmp/go")
		p.Out.Await(t, "\n", seen)
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil {
			t.Error("it had ended")
		}
		// The process needs but a moment to come to the frame again.
		time.Sleep(100 * time.Millisecond)
		s, err := session.Attach(nil, g.Name())
		if err == nil || !strings.Contains(err.Error(), "run \"recover -domain "+g.Name()) {
			t.Errorf("the next one: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r, err := session.Recover(dom, nil)
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		if !r.Ring || r.AltP2M != views || r.Reopened == views || views && r.Views != 1 {
			t.Errorf("kill %d: recovered %+v", i, r)
		}
		if a := allowed(t, dom, at.GFN()); a != xen.AccessRWX {
			t.Errorf("kill %d: the frame is left as %v", i, a)
		}
		if on, err := dom.AltP2M(); on || err != nil {
			t.Errorf("altp2m is on: %v, %v", on, err)
		}
		c.WaitLine(ctx, regexp.MustCompile(fmt.Sprintf(`memory writes=%d reads=%d beside=0 pid=%d`, writes, writes, pid)))
		if n := strings.Count(p.Out.String(), "\n"); n >= 2*writes {
			t.Errorf("kill %d: it came after all %d accesses", i, n)
		}
		g.MustExec(ctx, "touch /tmp/end")
		if out, status := c.Wait(ctx); status != 0 {
			t.Errorf("the guest says, with status %d: %s", status, out)
		}
		stop := watching(t, g, "-symbol", "panic_timeout", "-len", "4")
		g.MustExec(ctx, "echo 0 >/proc/sys/kernel/panic")
		if n := len(stop()); n != 1 {
			t.Errorf("kill %d: the next one saw %d writes of 1", i, n)
		}
	}
}

// allowed is what the guest may do with a frame.
func allowed(t *testing.T, d *xen.Domain, gfn xen.GFN) xen.Access {
	t.Helper()
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := m.Access(gfn)
	if err := errors.Join(err, m.Close()); err != nil {
		t.Fatal(err)
	}
	return a
}
