//go:build lab

package main

import (
	"bytes"
	"path/filepath"
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
// a jump that is written over the beginning of a system call, and a byte in the
// middle of another function, as a rootkit would.
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
	defer func() {
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
	for _, h := range []struct {
		name string
		off  vmi.VirtAddr
		code []byte
	}{{"__x64_sys_getdents64", 0, []byte{0xe9, 0, 0, 0, 0x10}}, {"__x64_sys_kill", 40, []byte{0xcc}}} {
		at, err := k.Symbols().Lookup(h.name)
		if err != nil {
			t.Fatal(err)
		}
		pa, err := k.AddressSpace().Translate(at + h.off)
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
		at0 := p[pa.Offset():][:len(h.code)]
		old := bytes.Clone(at0)
		copy(at0, h.code)
		defer func() {
			copy(at0, old)
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	out := checksys(t, g, 1)
	viewtest.Lines(t, out, `changed code +0 +__x64_sys_getdents64\+0x0 +0x\S+ +a jump to 0x.*`)
	if n := strings.Count(out, "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out)
	}
	viewtest.Lines(t, checksys(t, g, 1, "-baseline", clean), `changed code +0 +__x64_sys_getdents64\+0x0 +0x\S+ +a jump to 0x.*`,
		`changed code +1 +__x64_sys_kill\+0x28 +0x\S+ +bytes cc, before .*`)
}
