//go:build lab

package linux_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// TestLabProcCode finds nothing in the code of a guest that nobody has touched,
// which has kprobes and BPF programs of its own, and then what the test writes
// into it: at the beginning of a function, and in the middle of one.
func TestLabProcCode(t *testing.T) { eachKernel(t, testCode) }

func testCode(t *testing.T, g *labtest.Guest) {
	labtest.Intact(t, g)
	d, _ := openDomain(t, g.DomID())
	freeze(t, g, d)
	regs := registers(t, d)
	rec := vmi.NewRecorder(vmi.MapperFunc(d.MapFrames))
	mem := vmi.NewMemory(rec, nil)
	defer mem.Close()
	k, err := linux.Open(mem, regs)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, f := range collect(t, k.CheckCode()) {
		t.Errorf("untouched: found %+v", f)
	}
	t.Logf("checked in %v", time.Since(start))
	var b bytes.Buffer
	if err := rec.Save(&b, vmi.RecordingInfo{Comment: "clean", Registers: regs}); err != nil {
		t.Fatal(err)
	}
	s, err := vmi.OpenSnapshot(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	clean := vmi.NewMemory(s, nil)
	defer clean.Close()
	earlier, err := linux.Open(clean, regs)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range collect(t, k.CompareCode(earlier)) {
		t.Errorf("untouched, against a recording of %d bytes: found %+v", b.Len(), f)
	}

	hooked := "__x64_sys_getdents64"
	at, err := k.Symbols().Lookup(hooked)
	if err != nil {
		t.Fatal(err)
	}
	// A jump to where no code is.
	undo := patch(t, d, k, at, []byte{0xe9, 0, 0, 0, 0x10})
	found := collect(t, k.CheckCode())
	compared := collect(t, k.CompareCode(earlier))
	undo()
	if len(found) != 1 || found[0].Kind != linux.ChangedCode || found[0].Name != hooked+"+0x0" || found[0].Addr != at {
		t.Errorf("a jump at the beginning: found %+v", found)
	}
	t.Logf("%+v; against the recording %+v", found, compared)
	// One byte further in, which only the earlier state tells.
	undo = patch(t, d, k, at+40, []byte{0xcc})
	found, compared = collect(t, k.CheckCode()), collect(t, k.CompareCode(earlier))
	undo()
	if len(found) != 0 || len(compared) != 1 || compared[0].Name != hooked+"+0x28" || compared[0].Number != 1 {
		t.Errorf("a byte in the middle: found %+v, against the recording %+v", found, compared)
	}
	for _, f := range collect(t, k.CheckCode()) {
		t.Errorf("afterwards: found %+v", f)
	}
}

// patch writes into the code of a guest that stands still; the function that it
// returns puts back what was there.
func patch(t *testing.T, d *xen.Domain, k *linux.Kernel, at vmi.VirtAddr, code []byte) (undo func()) {
	t.Helper()
	pa, err := k.AddressSpace().Translate(at)
	if err != nil {
		t.Fatal(err)
	}
	if pa.Offset()+len(code) > xen.PageSize {
		t.Fatalf("%v crosses a page", at)
	}
	f, err := d.MapFrames([]xen.GFN{pa.GFN()}, true)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Frame(0)
	if err != nil {
		t.Fatal(err)
	}
	old := append([]byte(nil), p[pa.Offset():][:len(code)]...)
	copy(p[pa.Offset():], code)
	undone := false
	undo = func() {
		if undone {
			return
		}
		undone = true
		copy(p[pa.Offset():], old)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(undo) // before the guest goes on, also when the test fails
	return undo
}
