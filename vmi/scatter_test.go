package vmi_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// Pieces all over the memory are mapped together, and each has its own error.
func TestReadPieces(t *testing.T) {
	const pages = 400
	g := fakeguest.New()
	g.Private = true
	want := fill(64 * pages * xen.PageSize)
	g.Write(0, want)
	root := g.Alloc()
	const base vmi.VirtAddr = 0xffff888000000000
	for i := range vmi.VirtAddr(64*pages*xen.PageSize) >> 21 {
		g.Map(root, 4, base+i<<21, vmi.PhysAddr(i<<21), 2, 0)
	}
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	s := m.AddressSpace(vmi.CR3(root))
	if _, err := s.Translate(base); err != nil { // the tables
		t.Fatal(err)
	}
	var pieces []vmi.Piece
	for i := range pages {
		// Some cross a page, all are far from each other.
		pieces = append(pieces, vmi.Piece{Addr: base + vmi.VirtAddr(i*64*xen.PageSize+4090), Data: make([]byte, 4+i%8)})
	}
	before := g.Stats().Calls
	if err := s.ReadPieces(pieces); err != nil {
		t.Fatal(err)
	}
	if calls := g.Stats().Calls - before; calls > 2 {
		t.Errorf("%d calls", calls)
	}
	for i, p := range pieces {
		if off := int(p.Addr - base); p.N != len(p.Data) || p.Err != nil || !bytes.Equal(p.Data, want[off:off+len(p.Data)]) {
			t.Fatalf("piece %d: %d bytes, %v", i, p.N, p.Err)
		}
	}
	g.Remove(3)
	if err := m.Invalidate(); err != nil {
		t.Fatal(err)
	}
	pieces = []vmi.Piece{
		{Addr: base + 5, Data: make([]byte, 8)},
		{Addr: base + 2*xen.PageSize, Data: make([]byte, 2*xen.PageSize)},
		{Addr: 1 << 47, Data: make([]byte, 8)},
		{Addr: base, Data: nil},
	}
	err := s.ReadPieces(pieces)
	if !errors.Is(err, vmi.ErrNotMapped) || !errors.Is(err, vmi.ErrNotPresent) {
		t.Error(err)
	}
	for i, w := range []struct {
		n   int
		err error
	}{{8, nil}, {xen.PageSize, vmi.ErrNotMapped}, {0, vmi.ErrNotPresent}, {0, nil}} {
		if p := pieces[i]; p.N != w.n || !errors.Is(p.Err, w.err) {
			t.Errorf("piece %d: %d bytes, %v; want %d, %v", i, p.N, p.Err, w.n, w.err)
		}
	}
}

// More pieces than the cache holds are read all the same.
func TestReadPiecesBeyondCache(t *testing.T) {
	g := fakeguest.New()
	want := fill(256 * xen.PageSize)
	g.Write(0, want)
	root := g.Alloc()
	for i := range vmi.VirtAddr(256) {
		g.Map(root, 4, 0x400000+i*xen.PageSize, vmi.PhysAddr(i*xen.PageSize), 1, 0)
	}
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 16, Batch: 4})
	defer m.Close()
	var pieces []vmi.Piece
	for i := range 256 {
		pieces = append(pieces, vmi.Piece{Addr: vmi.VirtAddr(0x400000 + i*xen.PageSize), Data: make([]byte, 16)})
	}
	if err := m.AddressSpace(vmi.CR3(root)).ReadPieces(pieces); err != nil {
		t.Fatal(err)
	}
	for i, p := range pieces {
		if !bytes.Equal(p.Data, want[i*xen.PageSize:][:16]) {
			t.Errorf("piece %d", i)
		}
	}
	if n := g.Stats().Mapped; n > 16 {
		t.Errorf("%d frames are mapped", n)
	}
}
