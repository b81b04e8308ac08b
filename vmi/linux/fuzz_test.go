package linux_test

import (
	"errors"
	"iter"
	"os"
	"slices"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// FuzzGuest reads every list of a recorded guest that has written over its own
// structures: all of them end.
func FuzzGuest(f *testing.F) {
	s := snapshot(f)
	p := &patched{s, make(map[vmi.PhysAddr]uint64)}
	mem := vmi.NewMemory(p, nil)
	defer mem.Close()
	k, err := linux.Open(mem, s.Registers())
	if err != nil {
		f.Fatal(err)
	}
	gfns := slices.Collect(s.GFNs())
	init, err := k.Symbols().Lookup("init_task")
	if err != nil {
		f.Fatal(err)
	}
	pa, err := k.AddressSpace().Translate(init)
	if err != nil {
		f.Fatal(err)
	}
	at, _ := slices.BinarySearch(gfns, pa.GFN())
	f.Add(uint16(at), uint16(pa.Offset()/8), uint64(init), uint8(1))
	f.Add(uint16(3), uint16(5), ^uint64(0), uint8(8))
	f.Fuzz(func(t *testing.T, frame, word uint16, value uint64, n uint8) {
		clear(p.words)
		p.write(gfns[int(frame)%len(gfns)], word, value, n)
		if err := mem.Invalidate(); err != nil {
			t.Fatal(err)
		}
		for proc, err := range k.Processes() {
			if err != nil {
				break
			}
			_, err1 := proc.Task.Args()
			_, err2 := proc.Task.Exe()
			_, err3 := proc.Task.Namespaces()
			_ = errors.Join(err1, err2, err3, last(proc.Task.Maps()), last(proc.Task.MappedFiles()), last(proc.Task.Files()), last(proc.Task.Mounts()))
		}
		_ = errors.Join(last(k.ThreadInfos()), last(k.Modules()), last(k.Log()), last(k.Sockets()), last(k.Interfaces()), last(k.Check()))
	})
}

// FuzzOpen looks for the kernel, its symbols and its types in a recorded guest that
// has written over some of that: it finds it, or says why not.
func FuzzOpen(f *testing.F) {
	s := snapshot(f)
	mem := vmi.NewMemory(s, nil)
	defer mem.Close()
	k, err := linux.Open(mem, s.Registers())
	if err != nil {
		f.Fatal(err)
	}
	gfns := slices.Collect(s.GFNs())
	for _, name := range []string{"init_top_pgt", "linux_banner", "kallsyms_token_table", "kallsyms_names", "__start_BTF", "page_offset_base"} {
		va, err := k.Symbols().Lookup(name)
		if err != nil {
			continue // not all kernels have all of them among their symbols
		}
		pa, err := k.AddressSpace().Translate(va)
		if err != nil {
			f.Fatal(err)
		}
		at, _ := slices.BinarySearch(gfns, pa.GFN())
		f.Add(uint16(at), uint16(pa.Offset()/8), uint64(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, frame, word uint16, value uint64, n uint8) {
		p := &patched{s, make(map[vmi.PhysAddr]uint64)}
		p.write(gfns[int(frame)%len(gfns)], word, value, n)
		mem := vmi.NewMemory(p, nil)
		defer mem.Close()
		k, err := linux.Open(mem, s.Registers())
		if err != nil {
			return
		}
		_ = errors.Join(last(k.Processes()), last(k.Modules()))
	})
}

// snapshot is the recorded guest, for the test's time.
func snapshot(tb testing.TB) vmi.Snapshot {
	tb.Helper()
	r, err := os.Open(recording)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	info, err := r.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	s, err := vmi.OpenSnapshot(r, info.Size())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// write puts up to 16 words into a frame.
func (p *patched) write(gfn xen.GFN, word uint16, value uint64, n uint8) {
	for i := range n%16 + 1 {
		off := (int(word) + int(i)) % (xen.PageSize / 8) * 8
		p.words[vmi.PhysAddr(gfn<<xen.PageShift)+vmi.PhysAddr(off)] = value + uint64(i)
	}
}

// last returns what ends a list.
func last[T any](items iter.Seq2[T, error]) error {
	for _, err := range items {
		if err != nil {
			return err
		}
	}
	return nil
}
