//go:build lab

package linux_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// TestLabProcCode finds nothing in the code of a guest that nobody has touched,
// which has kprobes and BPF programs of its own, and then what the test writes
// into it: at the beginning of a function, and in the middle of one, of the kernel
// and of a module. That nothing of it is left is told by a comparison before the
// guest goes on: the sum of its text may change by its own doing, as the first
// sockets turn static keys for good.
func TestLabProcCode(t *testing.T) { eachKernel(t, testCode) }

func testCode(t *testing.T, g *labtest.Guest) {
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
	namesJump(t, found, at, hooked+"+0x0")
	t.Logf("%+v; against the recording %+v", found, compared)
	// One byte further in, which only the earlier state tells.
	undo = patch(t, d, k, at+40, []byte{0xcc})
	found, compared = collect(t, k.CheckCode()), collect(t, k.CompareCode(earlier))
	undo()
	if len(found) != 0 || len(compared) != 1 || compared[0].Name != hooked+"+0x28" || compared[0].Number != 1 {
		t.Errorf("a byte in the middle: found %+v, against the recording %+v", found, compared)
	}
	// The same in a module.
	at, name := moduleFunction(t, k, "dummy")
	undo = patch(t, d, k, at, []byte{0xe9, 0, 0, 0, 0x10})
	found = collect(t, k.CheckCode())
	undo()
	namesJump(t, found, at, name+"+0x0 [dummy]")
	const inside = 9 // behind endbr64 and ftrace's place
	old, err := k.AddressSpace().Uint8(at + inside)
	if err != nil {
		t.Fatal(err)
	}
	undo = patch(t, d, k, at+inside, []byte{^old})
	compared = collect(t, k.CompareCode(earlier))
	undo()
	if len(compared) != 1 || compared[0].Addr != at+inside || compared[0].Number != 1 || !strings.HasSuffix(compared[0].Name, " [dummy]") {
		t.Errorf("a byte of %s: found %+v", name, compared)
	}
	t.Logf("module: %+v; against the recording %+v", found, compared)
	for _, f := range append(collect(t, k.CheckCode()), collect(t, k.CompareCode(earlier))...) {
		t.Errorf("afterwards: found %+v", f)
	}
}

// namesJump checks what was found of a jump over a function's beginning: that, and
// where the function begins with endbr64, ftrace's place behind it that the jump
// reaches into.
func namesJump(t *testing.T, found []linux.Finding, at vmi.VirtAddr, name string) {
	t.Helper()
	named := false
	for _, f := range found {
		named = named || f.Kind == linux.ChangedCode && f.Addr == at && f.Name == name
		if f.Addr != at && f.Addr != at+4 {
			t.Errorf("besides a jump at %v: found %+v", at, f)
		}
	}
	if !named || len(found) > 2 {
		t.Errorf("a jump at %s, %v: found %+v", name, at, found)
	}
}

// moduleFunction returns a function of a module that no page's end is in.
func moduleFunction(t *testing.T, k *linux.Kernel, module string) (vmi.VirtAddr, string) {
	t.Helper()
	for _, m := range collect(t, k.Modules()) {
		if m.Name != module {
			continue
		}
		for _, s := range collect(t, k.ModuleSymbols(m)) {
			if s.Type == 't' && !strings.HasPrefix(s.Name, "__pfx_") && m.Ranges[0].Contains(s.Addr) && s.Addr%xen.PageSize < xen.PageSize-64 {
				return s.Addr, s.Name
			}
		}
	}
	t.Fatalf("no function in module %s", module)
	return 0, ""
}

// TestLabProcCodeTraced finds nothing in a guest whose ftrace, tracepoints and
// static keys are in use, by the guest's own doing, nor after they no longer are.
func TestLabProcCodeTraced(t *testing.T) {
	eachKernel(t, func(t *testing.T, g *labtest.Guest) {
		d, _ := openDomain(t, g.DomID())
		check := func(when string) {
			t.Helper()
			if err := d.Pause(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := d.Unpause(); err != nil {
					t.Error(err)
				}
			}()
			mem := vmi.NewMemory(vmi.MapperFunc(d.MapFrames), nil)
			defer mem.Close()
			k, err := linux.Open(mem, registers(t, d))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range collect(t, k.CheckCode()) {
				t.Errorf("%s: found %+v", when, f)
			}
		}
		ctx := t.Context()
		g.MustExec(ctx, "mount -t tracefs tracefs /sys/kernel/tracing && cd /sys/kernel/tracing &&"+
			" echo 'vfs_read ksys_write do_sys_openat2' >set_ftrace_filter && echo function >current_tracer &&"+
			" echo 1 >events/sched/sched_switch/enable && echo 1 >events/syscalls/sys_enter_openat/enable && grep -q '^function$' current_tracer")
		check("traced")
		g.MustExec(ctx, "cd /sys/kernel/tracing && echo function_graph >current_tracer")
		check("traced as a graph")
		g.MustExec(ctx, "cd /sys/kernel/tracing && echo nop >current_tracer && echo >set_ftrace_filter &&"+
			" echo 0 >events/enable && echo >trace && cd / && umount /sys/kernel/tracing")
		check("afterwards")
	})
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
