//go:build lab

package main

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/breakpoint/user"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Following a process through all page faults of the guest, its own and others',
// allocates nothing: what the test itself needs meanwhile is less than one for each.
func TestLabUprobeFaults(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	c := g.Start(ctx, "rm -f /tmp/go; exec workload mapped -n 10 -wait /tmp/go")
	pid, err := strconv.Atoi(c.WaitLine(ctx, regexp.MustCompile(`mapped ready pid=(\d+)`))[1])
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.Attach(nil, g.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	proc, err := process(s.Kernel, options{pid: pid})
	if err != nil {
		t.Fatal(err)
	}
	file, err := mapped(proc.Task, "libmapped.so")
	if err != nil {
		t.Fatal(err)
	}
	fns, err := functions(file, []string{"mapped_function"}, false)
	if err != nil {
		t.Fatal(err)
	}
	fault, _, err := kfunc.Find(s.Kernel, []string{"handle_mm_fault"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	dom, err := s.Journaled()
	if err != nil {
		t.Fatal(err)
	}
	engine, err := breakpoint.Open(breakpoint.Guest{Domain: dom, Monitor: s.Mon, Frames: vmi.MapperFunc(s.Dom.MapFrames), Loop: s.Loop}, nil)
	if err != nil {
		t.Fatal(err)
	}
	loop, stop := context.WithCancel(ctx)
	served := s.Serve(loop)
	points, err := user.Open(engine, s.Kernel, user.Fault{Addr: fault[0].Addr, Exits: fault[0].Exits}, int32(pid), &user.Options{PatchShared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, end := range []func() error{points.Close, engine.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
		stop()
		if err := session.UnlessCanceled(<-served); err != nil {
			t.Error(err)
		}
		g.MustExec(t.Context(), "touch /tmp/go")
		if out, status := c.Wait(t.Context()); status != 0 {
			t.Errorf("the guest says, with status %d: %s", status, out)
		}
	}()
	b, err := points.Insert(file, fns[0].Offset, func(*xen.Request) xen.Response { return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	if armed, err := b.Armed(); !armed || err != nil {
		t.Fatalf("armed: %v, %v", armed, err)
	}
	const processes = 20
	look := func() (faults, allocations uint64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return points.Stats().Faults, m.Mallocs
	}
	command := fmt.Sprintf("for i in $(seq %d); do bash -c :; done", processes)
	g.MustExec(ctx, command) // in which what is looked up once is
	faults, allocations := look()
	g.MustExec(ctx, command)
	f, a := look()
	f, a = f-faults, a-allocations
	t.Logf("%d allocations in %d page faults of the guest", a, f)
	if f < 100*processes || a > f/2 {
		t.Errorf("%d processes: %d page faults, %d allocations", processes, f, a)
	}
}
