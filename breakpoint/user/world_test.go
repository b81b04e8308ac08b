package user

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/recorded"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

const (
	faultFunc = "handle_mm_fault"

	// A library of one page, with two functions.
	size   = xen.PageSize
	first  = 0x100
	second = 0x140
	atEnd  = size - 2 // an instruction that may go on
	libVA  = vmi.VirtAddr(0x7f0000000000)
)

// world is the recorded kernel, in which the test maps a file's page, as Linux does
// it, and executes it.
type world struct {
	*recorded.Guest
	t      testing.TB
	engine *breakpoint.Engine
	fault  Fault

	paused   int
	injected int // int3s of the guest's own
	hits     map[uint64]int

	file    vmi.VirtAddr // struct file
	mapping vmi.VirtAddr // struct address_space
	idle    *recorded.Thread
	pid     int32
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{Guest: recorded.Open(t), t: t, hits: map[uint64]int{}, pid: 1000}
	w.engine = breakpoint.New(w.Guest, w)
	va := w.Symbol(faultFunc)
	text := append([]byte{0xf3, 0x0f, 0x1e, 0xfa, 0x90}, 0xc3) // endbr64; nop; ret
	copy(w.Bytes(va), text)
	exits, err := breakpoint.Exits(func(vmi.VirtAddr) bool { return false }, breakpoint.Code{Addr: va, Bytes: text})
	if err != nil || len(exits) != 1 {
		t.Fatal(exits, err)
	}
	w.fault = Fault{Addr: va, Exits: exits}
	w.newFile()
	w.idle = w.NewThread(0, nil, nil, "swapper")
	t.Cleanup(func() {
		if err := w.engine.Close(); err != nil {
			t.Error(err)
		}
		if w.paused != 0 {
			t.Errorf("paused %d times", w.paused)
		}
	})
	return w
}

// What the hypervisor does for the engine.
func (w *world) Pause() error   { w.paused++; return nil }
func (w *world) Unpause() error { w.paused--; return nil }
func (w *world) InjectBreakpoint(xen.VCPU, uint8) error {
	w.injected++
	return nil
}

// newFile makes a regular file below the guest's root directory.
func (w *world) newFile() {
	w.t.Helper()
	inode, dentry := w.Alloc(), w.Alloc()
	w.file, w.mapping = w.Alloc(), w.Alloc()
	fs := vmi.VirtAddr(binary.LittleEndian.Uint64(w.Member(w.Symbol("init_task"), "task_struct.fs")))
	copy(w.Member(w.file, "file.f_path"), w.Member(fs, "fs_struct.root"))
	root := binary.LittleEndian.Uint64(w.Member(w.file, "file.f_path.dentry"))
	w.Set(w.file, "file.f_path.dentry", uint64(dentry))
	w.Set(w.file, "file.f_inode", uint64(inode))
	w.Set(w.file, "file.f_mapping", uint64(w.mapping))
	w.Set(dentry, "dentry.d_parent", root)
	w.Set(dentry, "dentry.d_inode", uint64(inode))
	w.Set(dentry, "dentry.d_hash.pprev", uint64(dentry)) // it is not deleted
	name := w.Alloc()
	w.Set(dentry, "dentry.d_name.name", uint64(name))
	w.Set(dentry, "dentry.d_name.len", uint64(copy(w.Bytes(name), "lib.so\x00")-1))
	binary.LittleEndian.PutUint16(w.Member(inode, "inode.i_mode"), 0o100755)
	w.Set(inode, "inode.i_size", size)
	sb := binary.LittleEndian.Uint64(w.Member(vmi.VirtAddr(root), "dentry.d_sb"))
	w.Set(inode, "inode.i_sb", sb)
	w.Set(w.mapping, "address_space.host", uint64(inode))
}

// code is the file's page.
func code() []byte {
	b := make([]byte, size)
	b[first], b[second], b[atEnd] = 0x55, 0x53, 0xe8 // push rbp; push rbx; call
	return b
}

// page returns a new page with the contents.
func (w *world) page(contents []byte) xen.GFN {
	w.t.Helper()
	va := w.Alloc()
	copy(w.Bytes(va), contents)
	return w.Phys(va).GFN()
}

// contents of a frame.
func (w *world) contents(gfn xen.GFN) []byte {
	w.t.Helper()
	p, err := w.Page(gfn)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// cache has the page cache have the file's page in a frame.
func (w *world) cache(gfn xen.GFN) {
	w.t.Helper()
	base, err := w.Kernel.AddressSpace().Uint64(w.Symbol("vmemmap_base"))
	if err != nil {
		w.t.Fatal(err)
	}
	const structPage = 64
	page := vmi.VirtAddr(base) + vmi.VirtAddr(gfn)*structPage
	kernel := &recorded.Space{Root: w.Kernel.AddressSpace().Root()}
	if _, ok := w.Kernel.AddressSpace().Mapped(page); !ok { // the recording has not what was not read
		w.Map(kernel, page, w.Phys(w.Alloc()).GFN())
	}
	w.Set(page, "page.flags", 1<<3|1<<2|1<<1) // uptodate, whichever it is
	w.Set(page, "page.mapping", uint64(w.mapping))
	w.Set(page, "page.index", 0)
	w.Set(w.mapping, "address_space.i_pages.xa_head", uint64(page))
}

// newCached is a world whose page cache has the file's page.
func newCached(t testing.TB) (w *world, shared xen.GFN) {
	t.Helper()
	w = newWorld(t)
	shared = w.page(code())
	w.cache(shared)
	return w, shared
}

// process is one with the file mapped.
type process struct {
	*recorded.Thread
	area vmi.VirtAddr // vm_area_struct
}

func (w *world) process(comm string) *process {
	w.t.Helper()
	p := &process{Thread: w.NewThread(w.pid, nil, w.NewSpace(0), comm)}
	w.pid++
	w.mmap(p, libVA)
	return p
}

// mmap has the process have the file at va, and nowhere else.
func (w *world) mmap(p *process, va vmi.VirtAddr) {
	w.t.Helper()
	p.area = w.Alloc()
	clear(w.Bytes(p.area))
	w.Set(p.area, "vm_area_struct.vm_mm", uint64(p.Space.Addr))
	w.Set(p.area, "vm_area_struct.vm_start", uint64(va))
	w.Set(p.area, "vm_area_struct.vm_end", uint64(va)+size)
	w.Set(p.area, "vm_area_struct.vm_file", uint64(w.file))
	w.Set(p.area, "vm_area_struct.vm_flags", 5) // VM_READ, VM_EXEC
	// A maple tree of one leaf.
	node := w.Alloc()
	pivots, slots := w.Member(node, "maple_range_64.pivot"), w.Member(node, "maple_range_64.slot")
	clear(w.Bytes(node))
	for i, end := range []uint64{uint64(va) - 1, uint64(va) + size - 1, ^uint64(0)} {
		binary.LittleEndian.PutUint64(pivots[8*i:], end)
	}
	binary.LittleEndian.PutUint64(slots[8:], uint64(p.area))
	const leaf = 1
	w.Set(p.Space.Addr, "mm_struct.mm_mt.ma_root", uint64(node)|leaf<<3|2)
}

// mapped is what a process has mapped, by its own structures.
func (w *world) mapped(p *process) *linux.MappedFile {
	w.t.Helper()
	t, err := w.Kernel.TaskByPID(p.TGID)
	if err != nil {
		w.t.Fatal(err)
	}
	for f, err := range t.MappedFiles() {
		if err != nil {
			w.t.Fatal(err)
		}
		return f
	}
	w.t.Fatal("no file")
	return nil
}

// open opens a process, with breakpoints that count on both functions.
func (w *world) open(p *process) (*Process, []*Breakpoint) {
	w.t.Helper()
	u, err := Open(w.engine, w.Kernel, w.fault, p.TGID, &Options{PatchShared: true})
	if err != nil {
		w.t.Fatal(err)
	}
	f := w.mapped(p)
	if f.Path != "/lib.so" {
		w.t.Errorf("file %q", f.Path)
	}
	var bs []*Breakpoint
	for _, offset := range []uint64{first, second} {
		b, err := u.Insert(f, offset, func(*xen.Request) xen.Response { w.hits[offset]++; return xen.Response{} })
		if err != nil {
			w.t.Fatal(err)
		}
		bs = append(bs, b)
	}
	return u, bs
}

// execute has the vCPU, which runs a process, execute the instruction at va of a frame,
// until that is not an int3 that somebody takes away. It reports whether the guest gets
// an int3.
func (w *world) execute(p *process, va vmi.VirtAddr, at vmi.PhysAddr, argument vmi.VirtAddr) (trapped bool) {
	w.t.Helper()
	for range 2 {
		if w.contents(at.GFN())[at.Offset()] != int3 {
			return false
		}
		before := w.injected
		resp := w.engine.Handle(&xen.Request{
			Reason: xen.ReasonSoftwareBreakpoint, Breakpoint: xen.SoftwareBreakpoint{GFN: at.GFN(), InsnLength: 1},
			Regs: xen.Registers{
				RIP: uint64(va), RDI: uint64(argument), CR3: uint64(p.Space.Root),
				GS: xen.Segment{Base: uint64(w.SetCurrent(p.Addr))},
			},
		})
		if resp.Action != xen.Continue {
			return false // stepped over
		}
		if w.injected > before {
			return true
		}
	}
	w.t.Errorf("%v executes the int3 again and again", va)
	return true
}

// kernel executes the kernel's code at va.
func (w *world) kernel(p *process, va, argument vmi.VirtAddr) {
	w.t.Helper()
	if w.execute(p, va, w.Phys(va), argument) {
		w.t.Errorf("the kernel gets an int3 at %v", va)
	}
}

// pageFault has the process have a frame at an address in the file's range.
func (w *world) pageFault(p *process, va vmi.VirtAddr, gfn xen.GFN) {
	w.t.Helper()
	w.kernel(p, w.fault.Addr, p.area)
	w.Map(p.Space, va, gfn)
	w.kernel(p, w.fault.Exits[0].Addr, 0)
}

// write has the process write to the page at va, which makes it its own.
func (w *world) write(p *process, va vmi.VirtAddr, from xen.GFN) (gfn xen.GFN) {
	w.t.Helper()
	w.kernel(p, w.fault.Addr, p.area)
	gfn = w.page(w.contents(from)) // with what is in it
	w.Map(p.Space, va, gfn)
	w.kernel(p, w.fault.Exits[0].Addr, 0)
	return gfn
}

func place(gfn xen.GFN, offset uint64) vmi.PhysAddr {
	return vmi.PhysAddr(gfn)<<xen.PageShift + vmi.PhysAddr(offset)
}

// calls has the process call both functions in a frame at va, and checks how many
// hits there are.
func (w *world) calls(p *process, va vmi.VirtAddr, gfn xen.GFN, hits int) {
	w.t.Helper()
	for _, offset := range []uint64{first, second} {
		before := w.hits[offset]
		if w.execute(p, va+vmi.VirtAddr(offset), place(gfn, offset), 0) {
			w.t.Errorf("process %d dies of an int3 at offset %#x", p.TGID, offset)
		}
		if got := w.hits[offset] - before; got != hits {
			w.t.Errorf("process %d: %d hits at offset %#x, want %d", p.TGID, got, offset, hits)
		}
	}
}

// patched checks which of the frames' functions have int3s.
func (w *world) patched(want map[xen.GFN]bool) {
	w.t.Helper()
	got := map[xen.GFN]bool{}
	for gfn := range want {
		b := w.contents(gfn)
		got[gfn] = b[first] == int3 && b[second] == int3
		if !got[gfn] && (b[first] == int3 || b[second] == int3) {
			w.t.Errorf("frame %v has one int3", gfn)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("frames with int3s (-want +got):\n%s", diff)
	}
}

// close closes a process, and checks that the frames are as without.
func (w *world) close(u *Process, frames ...xen.GFN) {
	w.t.Helper()
	if err := errors.Join(u.Close(), u.Close()); err != nil {
		w.t.Error(err)
	}
	want := map[xen.GFN]bool{}
	for _, gfn := range frames {
		want[gfn] = false
		if b := w.contents(gfn); b[first] != code()[first] || b[second] != code()[second] {
			w.t.Errorf("frame %v has %#x and %#x", gfn, b[first], b[second])
		}
	}
	w.patched(want)
	if w.injected != 0 {
		w.t.Errorf("%d int3s of the guest's own", w.injected)
	}
}
