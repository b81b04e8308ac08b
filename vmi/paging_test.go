package vmi_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// space returns an address space of four or five levels with leaves of all
// sizes, at addresses in both halves.
func space(t testing.TB, levels int) (*fakeguest.Memory, vmi.AddressSpace) {
	t.Helper()
	g := fakeguest.New()
	root := g.Alloc()
	low := vmi.VirtAddr(0x400000)
	g.Map(root, levels, low, 0x1234000, 1, fakeguest.User|fakeguest.Writable)
	g.Map(root, levels, low+0x1000, 0x5678000, 1, fakeguest.User|fakeguest.NoExec)
	g.Map(root, levels, 0xffffffff81000000, 0x2200000, 2, 0)
	g.Map(root, levels, 0xffffffff81200000, 0x2400000|1<<12, 2, fakeguest.NoExec) // bit 12 of a leaf is PAT
	g.Map(root, levels, 0xffff888040000000, 0x80000000, 3, fakeguest.Writable|fakeguest.NoExec)
	m := vmi.NewMemory(g, nil)
	t.Cleanup(func() { m.Close() })
	if levels == 5 {
		return g, m.AddressSpace5(vmi.CR3(root))
	}
	return g, m.AddressSpace(vmi.CR3(root))
}

func TestTranslate(t *testing.T) {
	for _, levels := range []int{4, 5} {
		_, s := space(t, levels)
		for va, want := range map[vmi.VirtAddr]vmi.PhysAddr{
			0x400000:           0x1234000,
			0x400fff:           0x1234fff,
			0x401008:           0x5678008,
			0xffffffff81000000: 0x2200000,
			0xffffffff811fffff: 0x23fffff,
			0xffffffff81201234: 0x2401234,
			0xffff888040000000: 0x80000000,
			0xffff88807fffffff: 0xbfffffff,
		} {
			if got, err := s.Translate(va); err != nil || got != want {
				t.Errorf("%d levels: Translate(%v) = %v, %v, want %v", levels, va, got, err, want)
			}
		}
	}
}

func TestTranslateNotPresent(t *testing.T) {
	for _, tt := range []struct {
		va     vmi.VirtAddr
		levels int
		level  int
	}{
		{0x402000, 4, 1},
		{0x600000, 4, 2},
		{0x40000000, 4, 3},
		{0x7f0000000000, 4, 4},
		{0x800000000000, 4, 0},
		{0x7fffffffffffffff, 4, 0},
		{0xffff7fffffffffff, 4, 0},
		{0x800000000000, 5, 4},
		{0x80000000000000, 5, 5},
		{0x100000000000000, 5, 0},
		{0xfeffffffffffffff, 5, 0},
	} {
		_, s := space(t, tt.levels)
		_, err := s.Translate(tt.va)
		var np *vmi.NotPresentError
		if !errors.Is(err, vmi.ErrNotPresent) || !errors.As(err, &np) {
			t.Errorf("%d levels: Translate(%v): %v", tt.levels, tt.va, err)
			continue
		}
		if d := cmp.Diff(&vmi.NotPresentError{Addr: tt.va, Level: tt.level}, np); d != "" {
			t.Errorf("%d levels: Translate(%v): %s", tt.levels, tt.va, d)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("error is not one line: %q", err)
		}
	}
}

// TestPagedOut has an entry that is not present and yet not empty, as of a page
// in swap space.
func TestPagedOut(t *testing.T) {
	g, s := space(t, 4)
	const swapped = 0x402000
	g.SetEntry(s.Root(), 4, swapped, 1, 0x1234_5600)
	_, err := s.Uint64(swapped)
	var np *vmi.NotPresentError
	if !errors.Is(err, vmi.ErrNotPresent) || !errors.Is(err, vmi.ErrPagedOut) || !errors.As(err, &np) {
		t.Fatalf("a swapped page: %v", err)
	}
	if d := cmp.Diff(&vmi.NotPresentError{Addr: swapped, Level: 1, Entry: 0x1234_5600}, np); d != "" {
		t.Error(d)
	}
	if _, err := s.Uint64(swapped + 0x1000); errors.Is(err, vmi.ErrPagedOut) {
		t.Errorf("an empty entry: %v", err)
	}
}

func TestRootIgnoresPCIDAndFlags(t *testing.T) {
	_, s := space(t, 4)
	c := vmi.CR3(s.Root()) | 0xabc | 1<<63
	if got, err := s.Memory().AddressSpace(c).Translate(0x400000); err != nil || got != 0x1234000 {
		t.Errorf("Translate = %v, %v", got, err)
	}
	if got := s.WithRoot(c); got != s {
		t.Errorf("WithRoot(%v) = %+v, want %+v", c, got, s)
	}
}

func TestTranslateTableInMissingFrame(t *testing.T) {
	g, s := space(t, 4)
	g.WriteUint64(s.Root(), 0x7fff000|fakeguest.Present)
	_, err := s.Translate(0x400000)
	if !errors.Is(err, vmi.ErrNotMapped) || errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("error = %v", err)
	}
}

func TestReadAcrossPages(t *testing.T) {
	g, s := space(t, 4)
	want := fill(2 * xen.PageSize)
	g.Write(0x1234000, want[:xen.PageSize])
	g.Write(0x5678000, want[xen.PageSize:])
	got := make([]byte, len(want))
	if n, err := s.Read(0x400000, got); err != nil || n != len(want) {
		t.Fatalf("Read = %d, %v", n, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	n, err := s.Read(0x401f00, got)
	if n != 0x100 || !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("Read beyond the last page = %d, %v", n, err)
	}

	for _, off := range []int{0, 4092, 4093, 4094, 4095} {
		va := vmi.VirtAddr(0x400000 + off)
		b := want[off:]
		u8, err1 := s.Uint8(va)
		u16, err2 := s.Uint16(va)
		u32, err3 := s.Uint32(va)
		u64, err4 := s.Uint64(va)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Error(err)
		}
		type numbers struct {
			U8  uint8
			U16 uint16
			U32 uint32
			U64 uint64
		}
		w := numbers{b[0], binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b)}
		if d := cmp.Diff(w, numbers{u8, u16, u32, u64}); d != "" {
			t.Errorf("at %v: %s", va, d)
		}
	}
	if _, err := s.Uint64(0x401ffc); !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("Uint64 across the end: %v", err)
	}
}

func TestCString(t *testing.T) {
	g, s := space(t, 4)
	long := strings.Repeat("x", 300)
	g.Write(0x1234000, []byte("hello\x00"))
	g.Write(0x1234ffd, []byte("abc"))
	g.Write(0x5678000, []byte("def\x00"))
	g.Write(0x5678100, []byte(long+"\x00"))
	g.Write(0x5678ffe, []byte("zz"))
	for _, tt := range []struct {
		va   vmi.VirtAddr
		max  int
		want string
		err  error
	}{
		{0x400000, 100, "hello", nil},
		{0x400000, 5, "hello", nil},
		{0x400000, 4, "hell", nil},
		{0x400000, 0, "", nil},
		{0x400005, 10, "", nil},
		{0x400ffd, 100, "abcdef", nil},
		{0x400ffd, 4, "abcd", nil},
		{0x401100, 4096, long, nil},
		{0x401ffe, 100, "zz", vmi.ErrNotPresent},
		{0x401ffe, 2, "zz", nil},
		{0x402000, 100, "", vmi.ErrNotPresent},
	} {
		got, err := s.CString(tt.va, tt.max)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("CString(%v, %d) = %q, %v, want %q, %v", tt.va, tt.max, got, err, tt.want, tt.err)
		}
	}
	dst, terminated, err := s.AppendCString([]byte("> "), 0x400000, 5)
	if string(dst) != "> hello" || terminated || err != nil {
		t.Errorf("AppendCString cut = %q, %v, %v", dst, terminated, err)
	}
	dst, terminated, err = s.AppendCString(nil, 0x400000, 6)
	if string(dst) != "hello" || !terminated || err != nil {
		t.Errorf("AppendCString = %q, %v, %v", dst, terminated, err)
	}
}

func TestMappings(t *testing.T) {
	for _, levels := range []int{4, 5} {
		g, s := space(t, levels)
		all := []vmi.Mapping{
			{Virt: 0x400000, Phys: 0x1234000, Size: 4096, Writable: true, User: true},
			{Virt: 0x401000, Phys: 0x5678000, Size: 4096, User: true, NoExec: true},
			{Virt: 0xffff888040000000, Phys: 0x80000000, Size: 1 << 30, Writable: true, NoExec: true},
			{Virt: 0xffffffff81000000, Phys: 0x2200000, Size: 2 << 20},
			{Virt: 0xffffffff81200000, Phys: 0x2400000, Size: 2 << 20, NoExec: true},
		}
		for _, tt := range []struct {
			name     string
			from, to vmi.VirtAddr
			want     []vmi.Mapping
		}{
			{"all", 0, ^vmi.VirtAddr(0), all},
			{"low", 0, 0x401000, all[:1]},
			{"within pages", 0x400fff, 0x401001, all[:2]},
			{"empty range", 0x400000, 0x400000, nil},
			{"backwards", 0x401000, 0x400000, nil},
			{"kernel", 0xffffffff80000000, 0xffffffffc0000000, all[3:]},
			{"second large", 0xffffffff81200000, 0xffffffff81200001, all[4:]},
			{"last address", 0xfffffffffffff000, ^vmi.VirtAddr(0), nil},
			{"from the hole", 1 << 60, ^vmi.VirtAddr(0), all[2:]},
			{"to the hole", 0x401000, 1 << 63, all[1:2]},
			{"in the hole", 1 << 60, 1 << 61, nil},
		} {
			var got []vmi.Mapping
			for m, err := range s.Mappings(tt.from, tt.to) {
				if err != nil {
					t.Errorf("%d levels, %s: %v", levels, tt.name, err)
				}
				got = append(got, m)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("%d levels, %s: %s", levels, tt.name, d)
			}
		}
		for range s.Mappings(0, ^vmi.VirtAddr(0)) {
			break // must not go on
		}
		if levels == 4 {
			g.WriteUint64(s.Root()+8, 0x7fff000|fakeguest.Present)
			var errs, ok int
			for _, err := range s.Mappings(0, ^vmi.VirtAddr(0)) {
				if err == nil {
					ok++
				} else if errs++; !errors.Is(err, vmi.ErrNotMapped) {
					t.Error(err)
				}
			}
			if errs != 1 || ok != len(all) {
				t.Errorf("with a missing table: %d errors and %d mappings", errs, ok)
			}
		}
	}
}

// TestMappingsOfSelfReference walks tables whose entries all are the root.
func TestMappingsOfSelfReference(t *testing.T) {
	g := fakeguest.New()
	root := g.Alloc()
	for i := range 512 {
		g.WriteUint64(root+vmi.PhysAddr(8*i), uint64(root)|fakeguest.Present)
	}
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	n := 0
	for mp, err := range m.AddressSpace(vmi.CR3(root)).Mappings(0xffffffff80000000, 0xffffffff80200000) {
		if err != nil || mp.Phys != root {
			t.Fatalf("%+v, %v", mp, err)
		}
		n++
	}
	if n != 512 {
		t.Errorf("%d leaves in 2 MiB", n)
	}
}

func TestPagingDoesNotAllocateWhenWarm(t *testing.T) {
	g, s := space(t, 4)
	g.Write(0x1234000, fill(xen.PageSize))
	g.Write(0x5678000, fill(xen.PageSize))
	buf := make([]byte, 256)
	read := func() {
		s := s.Memory().AddressSpace(vmi.CR3(s.Root()))
		_, err1 := s.Translate(0x400123)
		_, err2 := s.Read(0x400f80, buf)
		_, err3 := s.Uint64(0x400ffc)
		_, err4 := s.Uint32(0x400010)
		b, _, err5 := s.AppendCString(buf[:0], 0x400001, 100)
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil || err5 != nil || len(b) == 0 {
			t.Fatal(err1, err2, err3, err4, err5)
		}
	}
	read()
	calls := g.Stats().Calls
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := g.Stats().Calls; n != calls {
		t.Errorf("warm reads mapped %d times", n-calls)
	}
}

// What is not mapped is found out without an allocation, as what is.
func TestMapped(t *testing.T) {
	g := fakeguest.New()
	root := g.Alloc()
	const there, absent, far = vmi.VirtAddr(0x400000), vmi.VirtAddr(0x401000), vmi.VirtAddr(0x7f0000000000)
	pa := g.Alloc()
	g.Map(root, 4, there, pa, 1, 0)
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	s := m.AddressSpace(vmi.CR3(root))
	for range 2 { // the first time the tables are not in the cache
		for va, want := range map[vmi.VirtAddr]vmi.PhysAddr{there + 5: pa + 5, absent: 0, far: 0, 1 << 63: 0} {
			if got, ok := s.Mapped(va); got != want || ok != (want != 0) {
				t.Errorf("Mapped(%v) = %v, %v, want %v", va, got, ok, want)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		s.Mapped(there)
		s.Mapped(absent)
		s.Mapped(far)
		s.Mapped(1 << 63)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzPaging walks tables of random content.
func FuzzPaging(f *testing.F) {
	entry := func(v ...uint64) (p []byte) {
		for _, v := range v {
			p = binary.LittleEndian.AppendUint64(p, v)
		}
		return p
	}
	f.Add(entry(0x1001, 0x1083, 0x2001), uint64(0), uint64(0x400000), uint8(0))
	f.Add(entry(0x2001, 0x2083, 0x3001), uint64(0x1020), uint64(0x40200000), uint8(2))
	f.Add(entry(0x1001_1003, 0x1083_2083), uint64(0x1000), uint64(0x400000), uint8(3))
	f.Add(entry(0x1003, 0x2003, 0x3003, 0xfffffffffffff003), uint64(0x1000), ^uint64(0), uint8(1))
	f.Fuzz(func(t *testing.T, tables []byte, root, va uint64, form uint8) {
		g := fakeguest.New()
		g.Write(0x1000, tables[:min(len(tables), 8*xen.PageSize)])
		m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 4, Batch: 2})
		defer m.Close()
		forms := []func(vmi.CR3) vmi.AddressSpace{m.AddressSpace, m.AddressSpace5, m.AddressSpacePAE, m.AddressSpace32}
		s := forms[form%4](vmi.CR3(root))
		from := vmi.VirtAddr(va)
		pa, err := s.Translate(from)
		n := 0
		for mp, merr := range s.Mappings(from, from+1) {
			if n++; n > 1 {
				t.Fatal("one address has several mappings")
			}
			if merr != nil {
				continue
			}
			if err != nil || mp.Phys+vmi.PhysAddr(from-mp.Virt) != pa {
				t.Fatalf("Mappings gives %+v, Translate %v, %v", mp, pa, err)
			}
		}
		if err == nil && n == 0 && from+1 != 0 {
			t.Fatalf("Translate gives %v, Mappings nothing", pa)
		}
		for range s.Mappings(from, from+1<<24) {
			if n++; n > 1<<13 {
				t.Fatal("more leaves than pages")
			}
		}
		_, _ = s.CString(from, 5000)
		_, _ = s.Uint64(from)
		if st := g.Stats(); st.Mapped > 4 {
			t.Fatalf("%d frames mapped", st.Mapped)
		}
	})
}

func BenchmarkTranslate(b *testing.B) {
	_, s := space(b, 4)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Translate(0x400123); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUint64(b *testing.B) {
	g, s := space(b, 4)
	g.WriteUint64(0x1234000, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Uint64(0x400000); err != nil {
			b.Fatal(err)
		}
	}
}
