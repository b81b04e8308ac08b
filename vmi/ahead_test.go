package vmi_test

import (
	"bytes"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// TestLongReads counts what 2 MiB cost that nothing is known of.
func TestLongReads(t *testing.T) {
	const size = 2 << 20
	g := fakeguest.New()
	g.Private = true
	want := fill(4 * size)
	g.Write(0, want)
	root := g.Alloc()
	const scattered, large vmi.VirtAddr = 0x400000, 0xffff888000000000
	pages := size / xen.PageSize
	for i := range pages {
		at := vmi.PhysAddr(i * 37 % pages * xen.PageSize)
		g.Map(root, 4, scattered+vmi.VirtAddr(i*xen.PageSize), at, 1, 0)
	}
	for i := range 4 {
		g.Map(root, 4, large+vmi.VirtAddr(i*size), vmi.PhysAddr(i*size), 2, 0)
	}
	cold := func(name string, max int, read func(m *vmi.Memory, s vmi.AddressSpace, p []byte) (int, error), want []byte) {
		t.Helper()
		m := vmi.NewMemory(g, nil)
		s := m.AddressSpace(vmi.CR3(root))
		for _, va := range []vmi.VirtAddr{scattered, large} { // the tables are known
			if _, err := s.Translate(va); err != nil {
				t.Fatal(err)
			}
		}
		before := g.Stats().Calls
		p := make([]byte, len(want))
		if n, err := read(m, s, p); err != nil || n != len(p) || !bytes.Equal(p, want) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if calls := g.Stats().Calls - before; calls > max {
			t.Errorf("%s: %d calls, want %d", name, calls, max)
		}
		calls := g.Stats().Calls
		if n := testing.AllocsPerRun(5, func() {
			if _, err := read(m, s, p); err != nil {
				t.Fatal(err)
			}
		}); n != 0 || g.Stats().Calls != calls {
			t.Errorf("%s, warm: %v allocations, %d calls", name, n, g.Stats().Calls-calls)
		}
		if err := m.Close(); err != nil || g.Stats().Mapped != 0 {
			t.Errorf("%s: %v, %d frames mapped after Close", name, err, g.Stats().Mapped)
		}
	}
	var shuffled []byte
	for i := range pages {
		at := i * 37 % pages * xen.PageSize
		shuffled = append(shuffled, want[at:at+xen.PageSize]...)
	}
	cold("physical", 2, func(m *vmi.Memory, _ vmi.AddressSpace, p []byte) (int, error) { return m.ReadAt(p, 4096) }, want[4096:4096+size])
	cold("a large page", 2, func(_ *vmi.Memory, s vmi.AddressSpace, p []byte) (int, error) { return s.Read(large+100, p) }, want[100:100+size])
	cold("small pages", 2, func(_ *vmi.Memory, s vmi.AddressSpace, p []byte) (int, error) { return s.Read(scattered, p) }, shuffled)
	cold("the whole guest", 4, func(m *vmi.Memory, _ vmi.AddressSpace, p []byte) (int, error) { return m.ReadAt(p, 0) }, want)
}
