package linux_test

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// patched is a snapshot with words written over it.
type patched struct {
	vmi.Snapshot
	words map[vmi.PhysAddr]uint64
}

func (p *patched) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	f, err := p.Snapshot.MapFrames(gfns, writable)
	if err != nil {
		return nil, err
	}
	return patchedFrames{f, p, slices.Clone(gfns)}, nil
}

type patchedFrames struct {
	vmi.Frames
	p    *patched
	gfns []xen.GFN
}

func (f patchedFrames) Frame(i int) ([]byte, error) {
	b, err := f.Frames.Frame(i)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b)
	for at, v := range f.p.words {
		if at.GFN() == f.gfns[i] {
			binary.LittleEndian.PutUint64(b[at.Offset():], v)
		}
	}
	return b, nil
}

// rootkit is a recorded guest whose kernel a test changes.
type rootkit struct {
	t   *testing.T
	p   *patched
	mem *vmi.Memory
	k   *linux.Kernel
}

func newRootkit(t *testing.T) *rootkit {
	t.Helper()
	f, err := os.Open(recording)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s, err := vmi.OpenSnapshot(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p := &patched{s, make(map[vmi.PhysAddr]uint64)}
	r := &rootkit{t: t, p: p, mem: vmi.NewMemory(p, nil)}
	t.Cleanup(func() { r.mem.Close() })
	if r.k, err = linux.Open(r.mem, s.Registers()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rootkit) read(va vmi.VirtAddr) vmi.VirtAddr {
	r.t.Helper()
	v, err := r.k.AddressSpace().Uint64(va)
	if err != nil {
		r.t.Fatal(err)
	}
	return vmi.VirtAddr(v)
}

func (r *rootkit) write(va vmi.VirtAddr, v vmi.VirtAddr) {
	r.t.Helper()
	pa, err := r.k.AddressSpace().Translate(va)
	if err != nil {
		r.t.Fatal(err)
	}
	r.p.words[pa] = uint64(v)
	if err := r.mem.Invalidate(); err != nil {
		r.t.Fatal(err)
	}
}

// unlink takes a list_head out of its list.
func (r *rootkit) unlink(node vmi.VirtAddr) {
	next, prev := r.read(node), r.read(node+8)
	r.write(prev, next)
	r.write(next+8, prev)
}

func (r *rootkit) field(path string) vmi.VirtAddr {
	r.t.Helper()
	f, err := r.k.Field(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return vmi.VirtAddr(f.Offset)
}

func (r *rootkit) symbol(name string) vmi.VirtAddr {
	r.t.Helper()
	va, err := r.k.Symbols().Lookup(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return va
}

func TestCheck(t *testing.T) {
	r := newRootkit(t)
	var want []linux.Finding

	// A system call and an interrupt in a module, and an interrupt in data.
	modules := collect(t, r.k.Modules())
	evil := modules[len(modules)-1]
	const getdents64 = 217
	r.write(r.symbol("sys_call_table")+8*getdents64, evil.Base+0x10)
	want = append(want, linux.Finding{Kind: linux.ForeignSyscall, Number: getdents64, Name: "getdents64", Addr: evil.Base + 0x10, Where: "module " + evil.Name})
	gate := r.symbol("idt_table") + 3*16
	data := r.symbol("init_task") + 8
	r.write(gate, r.read(gate)&^0xffff_0000_0000_ffff|data&0xffff|data&0xffff0000<<32)
	r.write(gate+8, data>>32)
	want = append(want, linux.Finding{Kind: linux.ForeignInterrupt, Number: 3, Addr: data, Where: "init_task+0x8"})

	// A process.
	tasks := collect(t, r.k.Processes())
	hidden := tasks[len(tasks)-2]
	r.unlink(hidden.Task.Addr + r.field("task_struct.tasks"))
	want = append(want, linux.Finding{Kind: linux.HiddenTask, Number: int(hidden.PID), Name: hidden.Comm, Addr: hidden.Task.Addr})
	for _, p := range collect(t, r.k.Processes()) {
		if p.PID == hidden.PID {
			t.Error("the process is still in the list")
		}
	}

	// A module.
	gone := modules[1]
	r.unlink(gone.Addr + r.field("module.list"))
	want = append(want, linux.Finding{Kind: linux.HiddenModule, Name: gone.Name, Addr: gone.Addr})

	if d := gocmp.Diff(want, collect(t, r.k.Check())); d != "" {
		t.Error(d)
	}
}
