//go:build lab

package main

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// checksys runs the program on a live guest.
func checksys(t *testing.T, g *labtest.Guest, want int, args ...string) string {
	t.Helper()
	var out, msg bytes.Buffer
	if status := tool().Status(t.Context(), append([]string{"-domain", g.Name()}, args...), &out, &msg); status != want {
		t.Fatalf("checksys %q: status %d: %s%s", args, status, msg.String(), out.String())
	}
	return out.String()
}

// TestLabProcHooked checks a guest that is sound, records it, and has checksys name
// a jump that is written over the beginning of a system call, a byte in the
// middle of another function, and changed entries of the tables of system calls and
// interrupts, as a rootkit would.
func TestLabProcHooked(t *testing.T) {
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	clean := filepath.Join(t.TempDir(), "clean")
	if out := checksys(t, g, 0, "-record", clean); out != heading {
		t.Errorf("found in a sound guest:\n%s", out)
	}
	if out := checksys(t, g, 0, "-baseline", clean); out != heading {
		t.Errorf("found against the recording of a sound guest:\n%s", out)
	}
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	var undo []func()
	defer func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
		if err := d.Unpause(); err != nil {
			t.Error(err)
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
	symbol := func(name string) vmi.VirtAddr {
		t.Helper()
		at, err := k.Symbols().Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	write := func(at vmi.VirtAddr, b []byte) {
		t.Helper()
		pa, err := k.AddressSpace().Translate(at)
		if err != nil {
			t.Fatal(err)
		}
		f, err := d.MapFrames([]xen.GFN{pa.GFN()}, true)
		if err != nil {
			t.Fatal(err)
		}
		p, err := f.Frame(0)
		if err != nil {
			t.Fatal(err)
		}
		undo = append(undo, func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		p = p[pa.Offset():][:len(b)]
		old := bytes.Clone(p)
		copy(p, b)
		undo = append(undo, func() { copy(p, old) })
	}
	write(symbol("__x64_sys_getdents64"), []byte{0xe9, 0, 0, 0, 0x10})
	write(symbol("__x64_sys_kill")+40, []byte{0xcc})
	data := symbol("init_task")
	const getdents64, breakpoint = 217, 3
	write(symbol("sys_call_table")+8*getdents64, binary.LittleEndian.AppendUint64(nil, uint64(data)))
	gate := symbol("idt_table") + 16*breakpoint
	write(gate, binary.LittleEndian.AppendUint16(nil, uint16(data)))
	write(gate+6, binary.LittleEndian.AppendUint16(nil, uint16(data>>16)))
	want := []string{`system call +217 +getdents64 +0x\S+ +init_task\+0x0`, `interrupt +3 +0x\S+ +init_task\+0x0`,
		`changed code +0 +__x64_sys_getdents64\+0x0 +0x\S+ +a jump to 0x.*`}
	out := checksys(t, g, 1)
	viewtest.Lines(t, out, want...)
	if n := strings.Count(out, "\n"); n != len(want)+1 {
		t.Errorf("%d lines:\n%s", n, out)
	}
	viewtest.Lines(t, checksys(t, g, 1, "-baseline", clean), append(want, `changed code +1 +__x64_sys_kill\+0x28 +0x\S+ +bytes cc, before .*`)...)
}
