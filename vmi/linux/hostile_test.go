package linux

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// heapSize is what a bareKernel has of memory from directMap on.
const heapSize = 16 * xen.PageSize

// bareKernel is a kernel with a direct map and nothing else; words are its first
// bytes.
func bareKernel(t testing.TB, words ...uint64) (*Kernel, *fakeguest.Memory) {
	t.Helper()
	g := fakeguest.New()
	g.Write(0, make([]byte, heapSize))
	for i, w := range words {
		g.WriteUint64(vmi.PhysAddr(8*i), w)
	}
	root := g.Alloc()
	g.Map(root, 4, directMap, 0, 3, fakeguest.NoExec|fakeguest.Writable)
	m := vmi.NewMemory(g, nil)
	t.Cleanup(func() { m.Close() })
	k := &Kernel{as: m.AddressSpace(vmi.CR3(root))}
	k.task.next = Field{Path: "list_head.next", Size: 8}
	setMembers(&k.fields.maple, mapleFields{
		Root:        Field{Path: "root", Size: 8},
		RangePivots: Field{Path: "pivot", Offset: 8, Size: 120}, RangeSlots: Field{Path: "slot", Offset: 128, Size: 128},
		ArangePivots: Field{Path: "pivot", Offset: 8, Size: 72}, ArangeSlots: Field{Path: "slot", Offset: 80, Size: 80},
	})
	setMembers(&k.fields.path, pathFields{
		Dentry: Field{Path: "dentry", Offset: 8, Size: 8}, Mnt: Field{Path: "mnt", Size: 8},
		Parent: Field{Path: "parent", Offset: 8, Size: 8}, NameLen: Field{Path: "len", Offset: 16, Size: 4},
		Name: Field{Path: "name", Offset: 24, Size: 8}, Hashed: Field{Path: "hash", Offset: 32, Size: 8},
		Op: Field{Path: "op", Offset: 40, Size: 8}, MountRoot: Field{Path: "root", Size: 8},
		MountUp: Field{Path: "up", Size: 8}, MountPoint: Field{Path: "point", Offset: 8, Size: 8},
		VFSMount: Field{Path: "mnt", Offset: 16},
	})
	return k, g
}

func setMembers[T any](m *members[T], v T) { m.once.Do(func() { m.v = v }) }

func indexFieldsForTest() *indexFields {
	return &indexFields{
		Shift: Field{Path: "shift", Size: 1}, Slots: Field{Path: "slots", Offset: 8, Size: 512},
		Left: Field{Path: "left", Offset: 16, Size: 8}, Right: Field{Path: "right", Offset: 8, Size: 8},
	}
}

func addresses(seq func(func(vmi.VirtAddr, error) bool)) (all []vmi.VirtAddr, err error) {
	for a, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, a)
	}
	return all, nil
}

// mapleNode puts a node at an offset of the heap and returns what points to it.
func mapleNode(g *fakeguest.Memory, at int, kind uint64, pivots, slots []uint64) uint64 {
	slotsAt := 128
	if kind == mapleArange {
		slotsAt = 80
	}
	for i, p := range pivots {
		g.WriteUint64(vmi.PhysAddr(at+8+8*i), p)
	}
	for i, s := range slots {
		g.WriteUint64(vmi.PhysAddr(at+slotsAt+8*i), s)
	}
	return uint64(directMap) + uint64(at) | kind<<mapleTypeShift | 4
}

func TestMapleTree(t *testing.T) {
	k, g := bareKernel(t)
	entry := func(n int) uint64 { return uint64(directMap) + 0x8000 + uint64(n)*0x100 }
	full := make([]uint64, 16)
	var pivots []uint64
	for i := range full {
		full[i] = entry(10 + i)
		if i < 15 {
			pivots = append(pivots, 0x3000+uint64(i)*16)
		}
	}
	left := mapleNode(g, 0x1000, mapleLeaf, []uint64{0xfff, 0x1fff}, []uint64{0, entry(1), 0x406, 0x0102_0304}) // then metadata
	right := mapleNode(g, 0x1100, mapleLeaf, pivots, full)
	root := mapleNode(g, 0x1200, mapleArange, []uint64{0x2fff}, []uint64{left, right})
	g.WriteUint64(0, root&^4|mapleInternal)
	got, err := addresses(k.mapleTree(&reader{s: k.as}, directMap))
	want := []vmi.VirtAddr{vmi.VirtAddr(entry(1))}
	for _, e := range full {
		want = append(want, vmi.VirtAddr(e))
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	for range k.mapleTree(&reader{s: k.as}, directMap) {
		break // must not go on
	}
	for name, r := range map[string]uint64{
		"itself":           mapleNode(g, 0x2000, mapleRange, []uint64{^uint64(0)}, []uint64{uint64(directMap) + 0x2000 | mapleRange<<mapleTypeShift | 4}),
		"backwards":        mapleNode(g, 0x2100, mapleLeaf, []uint64{0x2000, 0x1000}, []uint64{entry(1), entry(2)}),
		"of no known kind": uint64(directMap) + 0x1000 | 9<<mapleTypeShift,
		"not mapped":       0xffffc00000000000 | mapleLeaf<<mapleTypeShift,
	} {
		g.WriteUint64(0, r&^4|mapleInternal)
		if got, err := addresses(k.mapleTree(&reader{s: k.as}, directMap)); err == nil {
			t.Errorf("a node that is %s: %v", name, got)
		}
	}
	g.WriteUint64(0, entry(3)) // one entry needs no node
	if got, err := addresses(k.mapleTree(&reader{s: k.as}, directMap)); err != nil || len(got) != 1 {
		t.Errorf("one entry: %v, %v", got, err)
	}
	g.WriteUint64(0, 0)
	if got, err := addresses(k.mapleTree(&reader{s: k.as}, directMap)); err != nil || got != nil {
		t.Errorf("empty: %v, %v", got, err)
	}
}

func TestXArrayAndTree(t *testing.T) {
	k, g := bareKernel(t)
	f := indexFieldsForTest()
	item := uint64(directMap) + 0x8000
	xnode := func(at int, shift byte, slots map[int]uint64) uint64 {
		g.Write(vmi.PhysAddr(at), []byte{shift})
		for i, s := range slots {
			g.WriteUint64(vmi.PhysAddr(at+8+8*i), s)
		}
		return uint64(directMap) + uint64(at) | 2
	}
	low := xnode(0x1000, 0, map[int]uint64{0: 0, 1: item, 5: 0x406, 63: item + 8})
	top := xnode(0x2000, 6, map[int]uint64{0: low, 3: item + 16})
	got, err := addresses(xarray(&reader{s: k.as}, f, vmi.VirtAddr(top)))
	if d := cmp.Diff([]vmi.VirtAddr{vmi.VirtAddr(item), vmi.VirtAddr(item + 8)}, got[:min(2, len(got))]); d != "" || err != nil || len(got) != 3 {
		t.Errorf("xarray: %v %v %s", got, err, d)
	}
	loop := xnode(0x3000, 0, map[int]uint64{7: uint64(directMap) + 0x3000 | 2})
	if got, err := addresses(xarray(&reader{s: k.as}, f, vmi.VirtAddr(loop))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("xarray in itself: %v, %v", got, err)
	}

	node := func(at int, left, right vmi.VirtAddr) vmi.VirtAddr {
		g.WriteUint64(vmi.PhysAddr(at+16), uint64(left))
		g.WriteUint64(vmi.PhysAddr(at+8), uint64(right))
		return directMap + vmi.VirtAddr(at)
	}
	a, c := node(0x4000, 0, 0), node(0x4100, 0, 0)
	b := node(0x4200, a, c)
	if got, err := addresses(rbTree(&reader{s: k.as}, f, b)); err != nil || !slices.Equal(got, []vmi.VirtAddr{a, b, c}) {
		t.Errorf("tree: %v, %v", got, err)
	}
	node(0x4000, b, 0)
	if got, err := addresses(rbTree(&reader{s: k.as}, f, b)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("tree in a circle: %d nodes, %v", len(got), err)
	}
}

func TestPath(t *testing.T) {
	k, g := bareKernel(t)
	next := 0x1000
	put := func(words ...uint64) uint64 {
		at := next
		next += 0x100
		for i, w := range words {
			g.WriteUint64(vmi.PhysAddr(at+8*i), w)
		}
		return uint64(directMap) + uint64(at)
	}
	name := func(s string) (uint64, uint64) {
		at := next
		next += 0x100
		g.Write(vmi.PhysAddr(at), []byte(s))
		return uint64(len(s)), uint64(directMap) + uint64(at)
	}
	dentry := func(s string, parent, hashed uint64) uint64 {
		n, at := name(s)
		d := put(0, parent, n, at, hashed, 0)
		if parent == 0 {
			g.WriteUint64(vmi.PhysAddr(d-uint64(directMap)+8), d)
		}
		return d
	}
	root := dentry("/", 0, 1)
	mnt := dentry("mnt", root, 1)
	mountA := put(0, 0, root) // the root of all; its vfsmount is at 16
	g.WriteUint64(vmi.PhysAddr(mountA-uint64(directMap)), mountA)
	rootB := dentry("/", 0, 1)
	mountB := put(mountA, mnt, rootB)
	file := dentry("a file", dentry("dir", rootB, 1), 1)
	gone := dentry("gone", rootB, 0)
	circle := dentry("x", root, 1)
	g.WriteUint64(vmi.PhysAddr(circle-uint64(directMap)+8), dentry("y", circle, 1))
	f, err := k.fields.path.of(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mount, dentry uint64
		want          string
		err           error
	}{
		{mountB, file, "/mnt/dir/a file", nil},
		{mountB, gone, "/mnt/gone (deleted)", nil},
		{mountB, rootB, "/mnt", nil},
		{mountA, root, "/", nil},
		{mountA, circle, "", ErrCorrupt},
		{mountA, 0xffffc00000000000, "", vmi.ErrNotPresent},
	} {
		r := &reader{s: k.as}
		if got := k.pathOf(r, f, vmi.VirtAddr(tt.mount+16), vmi.VirtAddr(tt.dentry)); got != tt.want || !errors.Is(r.err, tt.err) {
			t.Errorf("%q, %v, want %q, %v", got, r.err, tt.want, tt.err)
		}
	}
}

// FuzzStructures walks what an arbitrary memory holds as every kind of structure:
// it ends, and does not panic.
func FuzzStructures(f *testing.F) {
	at := func(words ...uint64) (p []byte) {
		for _, w := range words {
			p = binary.LittleEndian.AppendUint64(p, w)
		}
		return p
	}
	self := uint64(directMap)
	f.Add(at(self, self, self), uint16(0))
	f.Add(at(self|mapleArange<<mapleTypeShift|2, 0xff, 0xfff, self|mapleLeaf<<mapleTypeShift|4), uint16(8))
	f.Add(at(0x100, self+16|2, self|2), uint16(0))
	k, g := bareKernel(f)
	fields := indexFieldsForTest()
	f.Fuzz(func(t *testing.T, memory []byte, start uint16) {
		memory = memory[:min(len(memory), heapSize)]
		g.Write(0, append(slices.Clone(memory), make([]byte, heapSize-len(memory))...))
		head := directMap + vmi.VirtAddr(start)&^7
		const enough = 1 << 16
		for name, seq := range map[string]func(func(vmi.VirtAddr, error) bool){
			"list":   k.list(head, 0),
			"maple":  k.mapleTree(&reader{s: k.as}, head),
			"xarray": xarray(&reader{s: k.as}, fields, head|2),
			"tree":   rbTree(&reader{s: k.as}, fields, head),
		} {
			n := 0
			for _, err := range seq {
				if n++; err != nil || n > enough {
					break
				}
			}
			if n > enough && name == "list" {
				t.Errorf("a list of more than %d in %d bytes", enough, heapSize)
			}
		}
		pf, err := k.fields.path.of(k)
		if err != nil {
			t.Fatal(err)
		}
		k.pathOf(&reader{s: k.as}, pf, head, head)
		dentryPath(&reader{s: k.as}, pf, head)
	})
}

// TestGuestReboots reads a kernel that another one has taken the place of, or
// nothing: every list ends with an error.
func TestGuestReboots(t *testing.T) {
	for name, edit := range map[string]func(g *testGuest){
		"memory cleared": func(g *testGuest) {
			g.Write(data(dTopTable), make([]byte, dSize))
			g.Write(heapPhys, make([]byte, g.next-heapPhys))
		},
		"kernel's data cleared": func(g *testGuest) { g.Write(data(dInitTask), make([]byte, dSize-dInitTask)) },
		"processes cleared":     func(g *testGuest) { g.Write(heapPhys, make([]byte, g.next-heapPhys)) },
		"memory given away": func(g *testGuest) {
			for f := dataPhys.GFN(); f < (dataPhys + dSize).GFN(); f++ {
				g.Remove(f)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTestGuest(t, guestOptions{})
			k := g.open(t)
			edit(g)
			if err := g.mem.Invalidate(); err != nil {
				t.Fatal(err)
			}
			n, last := 0, error(nil)
			for _, err := range k.Threads() {
				if n, last = n+1, err; n > 100 {
					t.Fatal("no end")
				}
			}
			if !errors.Is(last, ErrCorrupt) && !errors.Is(last, vmi.ErrNotPresent) && !errors.Is(last, vmi.ErrNotMapped) {
				t.Errorf("%d threads, then %v", n, last)
			}
			if _, err := k.TaskByPID(77); err == nil || errors.Is(err, ErrNoTask) {
				t.Errorf("TaskByPID: %v", err)
			}
		})
	}
}
