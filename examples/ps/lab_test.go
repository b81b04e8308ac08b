//go:build lab

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// ps runs the program on a live guest.
func ps(t *testing.T, g *labtest.Guest, args ...string) string {
	t.Helper()
	var out, msg bytes.Buffer
	if status := tool().Status(t.Context(), append([]string{"-domain", g.Name()}, args...), &out, &msg); status != 0 {
		t.Fatalf("status %d: %s", status, msg.String())
	}
	return out.String()
}

// TestLabProcHidden lists a guest's processes, live and from the recording of
// that, and again once one of them was taken out of the kernel's list from
// outside, as a rootkit would.
func TestLabProcHidden(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	c := g.Start(ctx, "exec sleep 1000")
	line := fmt.Sprintf(`0 +%d +%d +\d+ +\d+ +\d+ +S +\S+ +sleep 1000`, c.PID(), c.PID())
	file := filepath.Join(t.TempDir(), "recording")
	for _, args := range [][]string{nil, {"-running"}, {"-record", file}} {
		viewtest.Lines(t, ps(t, g, args...), line)
		if out := g.MustExec(ctx, "echo it runs on"); out != "it runs on\n" {
			t.Errorf("afterwards the guest says %q", out)
		}
	}
	var out, msg bytes.Buffer
	if status := tool().Status(ctx, []string{"-image", file}, &out, &msg); status != 0 {
		t.Fatalf("status %d: %s", status, msg.String())
	}
	viewtest.Lines(t, out.String(), line)

	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	show := hide(t, d, int32(c.PID()))
	hidden := ps(t, g, "-running")
	show()
	viewtest.Lines(t, hidden, line+` \(hidden\)`)
	viewtest.Lines(t, ps(t, g), line)
	g.MustExec(ctx, fmt.Sprintf("kill %d", c.PID()))
	c.Wait(ctx)
}

// hide takes a process out of the list of a guest, which stands still until show
// puts it back.
func hide(t *testing.T, d *xen.Domain, pid int32) (show func()) {
	t.Helper()
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	show = func() {
		if err := d.Unpause(); err != nil {
			t.Error(err)
		}
	}
	failed := true
	defer func() {
		if failed {
			show()
		}
	}()
	regs, err := d.AllRegisters()
	if err != nil {
		t.Fatal(err)
	}
	mem := vmi.NewMemory(vmi.MapperFunc(d.MapFrames), nil)
	defer mem.Close()
	k, err := linux.Open(mem, regs)
	if err != nil {
		t.Fatal(err)
	}
	task, err := k.TaskByPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := k.Field("task_struct.tasks")
	if err != nil {
		t.Fatal(err)
	}
	node := task.Addr + vmi.VirtAddr(tasks.Offset)
	s := k.AddressSpace()
	pointer := func(at vmi.VirtAddr) vmi.VirtAddr {
		v, err := s.Uint64(at)
		if err != nil {
			t.Fatal(err)
		}
		return vmi.VirtAddr(v)
	}
	next, prev := pointer(node), pointer(node+8)
	where := func(at vmi.VirtAddr) vmi.PhysAddr {
		pa, err := s.Translate(at)
		if err != nil {
			t.Fatal(err)
		}
		return pa
	}
	inNext, inPrev := where(next+8), where(prev)
	write(t, d, inPrev, uint64(next))
	write(t, d, inNext, uint64(prev))
	failed = false
	goOn := show
	return func() {
		write(t, d, inPrev, uint64(node))
		write(t, d, inNext, uint64(node))
		goOn()
	}
}

func write(t *testing.T, d *xen.Domain, at vmi.PhysAddr, v uint64) {
	t.Helper()
	f, err := d.MapFrames([]xen.GFN{at.GFN()}, true)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	p, err := f.Frame(0)
	if err != nil {
		t.Error(err)
		return
	}
	binary.LittleEndian.PutUint64(p[at.Offset():], v)
}
