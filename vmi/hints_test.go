package vmi_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// TestWalksFollowTheGuest changes page tables of all levels between reads: what a
// memory that has walked them before reads is what one reads that sees them for
// the first time.
func TestWalksFollowTheGuest(t *testing.T) {
	for _, levels := range []int{4, 5} {
		for _, maxFrames := range []int{8, 1024} { // of the small one, pages are taken out all the time
			t.Run(fmt.Sprintf("%d levels, %d frames", levels, maxFrames), func(t *testing.T) {
				testWalksFollow(t, levels, maxFrames)
			})
		}
	}
}

func testWalksFollow(t *testing.T, levels, maxFrames int) {
	r := rand.New(rand.NewPCG(1, uint64(maxFrames)))
	g := fakeguest.New()
	const frames = 1024 // two large pages
	for f := range frames {
		g.WriteUint64(vmi.PhysAddr(f*xen.PageSize+8), uint64(f)<<32|0xabcd)
	}
	roots := []vmi.PhysAddr{g.Alloc(), g.Alloc(), g.Alloc()}
	const base = vmi.VirtAddr(0xffff888000000000)
	// A few pages that differ in the index of one table each.
	var pages []vmi.VirtAddr
	for level := range levels {
		for i := range 4 {
			pages = append(pages, base+vmi.VirtAddr(i)<<(12+9*min(level, 2)))
		}
	}
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: maxFrames, Batch: 1})
	defer m.Close()
	space := func(m *vmi.Memory, root vmi.PhysAddr) vmi.AddressSpace {
		if levels == 5 {
			return m.AddressSpace5(vmi.CR3(root))
		}
		return m.AddressSpace(vmi.CR3(root))
	}
	at := func() vmi.PhysAddr { return vmi.PhysAddr(r.IntN(frames) * xen.PageSize) }
	found := 0
	for range 600 {
		root, va := roots[r.IntN(len(roots))], pages[r.IntN(len(pages))]
		level := 1 + r.IntN(levels)
		switch n := r.IntN(10); {
		case n < 5:
			g.Map(root, levels, va, at(), 1, 0)
		case n < 7:
			g.Map(root, levels, va, at()&^0x1fffff, 2, 0)
		case n < 8:
			g.SetEntry(root, levels, va, level, 0)
		case n < 9 && level > 1: // another table, of which nothing is known
			g.SetEntry(root, levels, va, level, uint64(g.Alloc())|fakeguest.Present)
		default:
			if err := m.Invalidate(); err != nil {
				t.Fatal(err)
			}
		}
		first := vmi.NewMemory(g, nil)
		for range 20 {
			root, va := roots[r.IntN(len(roots))], pages[r.IntN(len(pages))]+8
			wantAddr, wantErr := space(first, root).Translate(va)
			addr, err := space(m, root).Translate(va)
			if addr != wantAddr || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("Translate(%v) = %v, %v, want %v, %v", va, addr, err, wantAddr, wantErr)
			}
			wantWord, wantErr := space(first, root).Uint64(va)
			word, err := space(m, root).Uint64(va)
			if word != wantWord || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("Uint64(%v) = %#x, %v, want %#x, %v", va, word, err, wantWord, wantErr)
			}
			if err == nil {
				found++
			}
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if found < 1000 {
		t.Errorf("only %d reads led anywhere", found)
	}
}

// BenchmarkWarmWalk reads 8 bytes through page tables of four levels.
func BenchmarkWarmWalk(b *testing.B) {
	g := fakeguest.New()
	root := g.Alloc()
	for i := range 64 {
		g.Map(root, 4, vmi.VirtAddr(0x400000+i*xen.PageSize), g.Alloc(), 1, 0)
	}
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	s := m.AddressSpace(vmi.CR3(root))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Uint64(vmi.VirtAddr(0x400000 + i%64*xen.PageSize)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmReadAt reads 2 MiB of memory that is mapped already, and for
// comparison copies as much out of the same frames.
func BenchmarkWarmReadAt(b *testing.B) {
	const frames = 512
	g := fakeguest.New()
	first := g.Alloc()
	for range frames - 1 {
		g.Alloc()
	}
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	buf := make([]byte, frames*xen.PageSize)
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(buf)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.ReadAt(buf, first); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("copy", func(b *testing.B) {
		var data [frames][]byte
		for i := range data {
			p, err := m.Page(first.GFN() + xen.GFN(i))
			if err != nil {
				b.Fatal(err)
			}
			data[i] = p
		}
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			for i, p := range data {
				copy(buf[i*xen.PageSize:], p)
			}
		}
	})
}
