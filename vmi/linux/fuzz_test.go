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
	r, err := os.Open(recording)
	if err != nil {
		f.Fatal(err)
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		f.Fatal(err)
	}
	s, err := vmi.OpenSnapshot(r, info.Size())
	if err != nil {
		f.Fatal(err)
	}
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
		gfn := gfns[int(frame)%len(gfns)]
		for i := range n%16 + 1 {
			off := (int(word) + int(i)) % (xen.PageSize / 8) * 8
			p.words[vmi.PhysAddr(gfn<<xen.PageShift)+vmi.PhysAddr(off)] = value + uint64(i)
		}
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

// last returns what ends a list.
func last[T any](items iter.Seq2[T, error]) error {
	for _, err := range items {
		if err != nil {
			return err
		}
	}
	return nil
}
