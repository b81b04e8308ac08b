// Package recorded has the Linux guest of testdata/guests for tests which need a
// kernel whose memory they can write: they make its processes and mappings, by the
// kernel's own structures.
package recorded

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

const file = "linux-6.1.rec"

// Guest is the recorded guest, which the tests of a program have one after the other.
type Guest struct {
	*Memory
	Kernel *linux.Kernel

	t      testing.TB
	fields map[string]linux.Field
	heap   []vmi.VirtAddr // pages that nobody uses
}

var opened = sync.OnceValues(func() (*Guest, error) {
	name, err := find()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := vmi.OpenSnapshot(f, info.Size())
	if err != nil {
		return nil, err
	}
	g := &Guest{Memory: &Memory{file: s, pages: map[xen.GFN][]byte{}}}
	if g.Kernel, err = linux.Open(vmi.NewMemory(g, nil), s.Registers()); err != nil {
		return nil, err
	}
	g.found = true
	return g, nil
})

// find returns the recording's path from a package's directory, in which tests run.
func find() (string, error) {
	for up := ".."; ; up = filepath.Join("..", up) {
		name := filepath.Join(up, "testdata", "guests", file)
		_, err := os.Stat(name)
		if err == nil || !os.IsNotExist(err) {
			return name, err
		}
		if dir, derr := filepath.Abs(up); derr != nil || dir == filepath.Dir(dir) {
			return "", err
		}
	}
}

// Open returns the guest as it was recorded, and has it be so again when the test
// ends.
func Open(t testing.TB) *Guest {
	t.Helper()
	one, err := opened()
	if err != nil {
		t.Fatal(err)
	}
	g := &Guest{Memory: one.Memory, Kernel: one.Kernel, t: t, fields: map[string]linux.Field{}}
	t.Cleanup(func() {
		for gfn, p := range g.pages {
			if gfn >= End {
				g.Remove(gfn)
			} else if err := g.restore(gfn, p); err != nil {
				t.Error(err)
			}
		}
	})
	// Free memory is beside the first process.
	first, err := g.Kernel.TaskByPID(1)
	if err != nil {
		t.Fatal(err)
	}
	const largePage = 0x200000
	region := first.Addr &^ (largePage - 1)
	there := slices.Collect(g.file.GFNs())
	for va := region; va < region+largePage; va += xen.PageSize {
		pa, err := g.Kernel.AddressSpace().Translate(va)
		if err != nil {
			continue
		}
		if _, found := slices.BinarySearch(there, pa.GFN()); !found {
			g.heap = append(g.heap, va)
		}
	}
	return g
}

// Symbol returns the address of a symbol of the kernel.
func (g *Guest) Symbol(name string) vmi.VirtAddr {
	g.t.Helper()
	va, err := g.Kernel.Symbols().Lookup(name)
	if err != nil {
		g.t.Fatal(err)
	}
	return va
}

// Phys returns where an address of the kernel is in memory.
func (g *Guest) Phys(va vmi.VirtAddr) vmi.PhysAddr {
	g.t.Helper()
	pa, err := g.Kernel.AddressSpace().Translate(va)
	if err != nil {
		g.t.Fatal(err)
	}
	return pa
}

// Bytes is the kernel's memory from va to the end of its page.
func (g *Guest) Bytes(va vmi.VirtAddr) []byte {
	g.t.Helper()
	pa := g.Phys(va)
	p, err := g.Page(pa.GFN())
	if err != nil {
		g.t.Fatal(err)
	}
	return p[pa.Offset():]
}

// Alloc returns a page that nobody uses, by the kernel's address. It is empty, or as
// it was when it was freed.
func (g *Guest) Alloc() vmi.VirtAddr {
	g.t.Helper()
	if len(g.heap) == 0 {
		g.t.Fatal("the guest has no more memory")
	}
	va := g.heap[0]
	g.heap = g.heap[1:]
	return va
}

// AllocRoot returns two, as a root of page tables has with KPTI.
func (g *Guest) AllocRoot() vmi.VirtAddr {
	g.t.Helper()
	i := slices.IndexFunc(g.heap, func(va vmi.VirtAddr) bool { return va&0x1fff == 0 && slices.Contains(g.heap, va+xen.PageSize) })
	if i < 0 {
		g.t.Fatal("the guest has no more memory")
	}
	root := g.heap[i]
	g.heap = slices.DeleteFunc(g.heap, func(va vmi.VirtAddr) bool { return va&^0x1fff == root })
	return root
}

// Free gives a page back.
func (g *Guest) Free(va vmi.VirtAddr) { g.heap = append(g.heap, va) }

// Offset returns where a structure has a member.
func (g *Guest) Offset(path string) vmi.VirtAddr {
	g.t.Helper()
	return vmi.VirtAddr(g.field(path).Offset)
}

func (g *Guest) field(path string) linux.Field {
	g.t.Helper()
	f, ok := g.fields[path]
	if !ok {
		var err error
		if f, err = g.Kernel.Field(path); err != nil {
			g.t.Fatal(err)
		}
		g.fields[path] = f
	}
	return f
}

// Member is the bytes of a member of a structure at va.
func (g *Guest) Member(va vmi.VirtAddr, path string) []byte {
	g.t.Helper()
	f := g.field(path)
	b := g.Bytes(va + vmi.VirtAddr(f.Offset))
	if int(f.Size) > len(b) {
		g.t.Fatalf("%s of %v is beyond the page", path, va)
	}
	return b[:f.Size]
}

// Set writes a member of four or eight bytes.
func (g *Guest) Set(va vmi.VirtAddr, path string, v uint64) {
	g.t.Helper()
	b := g.Member(va, path)
	if len(b) == 4 {
		binary.LittleEndian.PutUint32(b, uint32(v))
	} else {
		binary.LittleEndian.PutUint64(b, v)
	}
}
