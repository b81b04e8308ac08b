package vmi_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// at reads what the guest has.
func at(t *testing.T, g *fakeguest.Memory, a vmi.PhysAddr, n int) []byte {
	t.Helper()
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	p := make([]byte, n)
	if _, err := m.ReadAt(p, a); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWriteAt(t *testing.T) {
	for _, tc := range []struct {
		name  string
		a     vmi.PhysAddr
		n     int
		calls int
	}{
		{"nothing", 0x10000, 0, 0},
		{"a byte", 0x10fff, 1, 1},
		{"across frames", 0x10ffe, 5, 1},
		{"3 MiB", 0x10003, 3 << 20, 2},
	} {
		g := fakeguest.New()
		before := fill(4 << 20)
		g.Write(0x10000, before)
		m := vmi.NewMemory(g, nil)
		want := bytes.Clone(before)
		p := bytes.Repeat([]byte{0xa5, 0x5a, 1}, tc.n/3+1)[:tc.n]
		copy(want[tc.a-0x10000:], p)
		if n, err := m.WriteAt(p, tc.a); n != tc.n || err != nil {
			t.Errorf("%s: %d bytes, %v", tc.name, n, err)
		}
		if got := g.Stats(); got.Calls != tc.calls || got.Mapped != 0 {
			t.Errorf("%s: %+v, want %d calls", tc.name, got, tc.calls)
		}
		if !bytes.Equal(at(t, g, 0x10000, len(want)), want) {
			t.Errorf("%s: wrong bytes", tc.name)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := m.WriteAt([]byte{1}, tc.a); !errors.Is(err, vmi.ErrClosed) {
			t.Errorf("%s: after Close: %v", tc.name, err)
		}
	}
}

// A write goes as far as it can, and says how far.
func TestWriteStops(t *testing.T) {
	g := fakeguest.New()
	g.Write(0x10000, fill(2*xen.PageSize))
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	p := bytes.Repeat([]byte{7}, 3*xen.PageSize)
	var nm *vmi.NotMappedError
	if n, err := m.WriteAt(p, 0x10100); n != 2*xen.PageSize-0x100 || !errors.As(err, &nm) || nm.GFN != 0x12 {
		t.Errorf("before a frame that is missing: %d, %v", n, err)
	}
	if n, err := m.WriteAt(p, 1<<52-1); n != 0 || !errors.Is(err, vmi.ErrNotMapped) {
		t.Errorf("the end of physical memory: %d, %v", n, err)
	}
	root := g.Alloc()
	s := m.AddressSpace(vmi.CR3(root))
	const va vmi.VirtAddr = 0x7f0000000000
	g.Map(root, 4, va, 0x11000, 1, 0) // read-only for the guest
	if n, err := s.Write(va+0xff0, p); n != 0x10 || !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("before a page that is not present: %d, %v", n, err)
	}
	if got := at(t, g, 0x11000, xen.PageSize); !bytes.Equal(got, p[:xen.PageSize]) {
		t.Error("wrong bytes")
	}
	if n, err := s.Write(va+0x1000, p); n != 0 || !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("no page at all: %d, %v", n, err)
	}
	g.Map(root, 4, va+0x1000, 0x10000, 1, 0)
	if n, err := s.Write(va+0xff8, []byte("scattered pages")); n != 15 || err != nil {
		t.Errorf("two pages: %d, %v", n, err)
	}
	if got := string(at(t, g, 0x11ff8, 8)) + string(at(t, g, 0x10000, 7)); got != "scattered pages" {
		t.Errorf("two pages: %q", got)
	}
	g.Err = errors.New("no more")
	if n, err := m.WriteAt(p, 0x10000); n != 0 || !errors.Is(err, g.Err) || !errors.Is(err, vmi.ErrNotMapped) {
		t.Errorf("a mapper that fails: %d, %v", n, err)
	}
}

// Memory of a file is not written.
func TestWriteReadOnly(t *testing.T) {
	file := fill(xen.PageSize)
	m := vmi.NewMemory(vmi.Image(bytes.NewReader(file)), nil)
	defer m.Close()
	if n, err := m.WriteAt([]byte{1}, 0); n != 0 || !errors.Is(err, vmi.ErrNotMapped) {
		t.Errorf("%d, %v", n, err)
	}
}
