package vmi

import (
	"iter"

	"github.com/govmi/govmi/xen"
)

// Mapping is one leaf of a guest's page tables.
type Mapping struct {
	Virt VirtAddr
	Phys PhysAddr
	Size uint64 // bytes: 4 KiB, 2 MiB (4 MiB without PAE) or 1 GiB
	// The permissions of the whole path, not of the leaf alone.
	Writable, User, NoExec bool
}

// Mappings yields the leaves that map addresses in [from, to), in ascending
// order; the first and the last may reach beyond the range. A table whose
// frame cannot be mapped yields an error, and the walk goes on behind it. The
// tables are read while the guest may run; each one is read at once. The
// work is bounded by the range: tables that refer to themselves are walked as
// the CPU would.
func (s AddressSpace) Mappings(from, to VirtAddr) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		if from >= to {
			return
		}
		w := walker{s: s, from: from, last: to - 1, yield: yield}
		if s.form.long() {
			w.leaveHole()
		} else {
			w.last = min(w.last, 1<<32-1)
		}
		if w.from <= w.last {
			w.table(int(s.form.levels), s.root, 0, pteWritable|pteUser)
		}
	}
}

type walker struct {
	s          AddressSpace
	from, last VirtAddr
	yield      func(Mapping, error) bool
	buf        [5][xen.PageSize]byte // one table per level
}

// leaveHole moves the ends of the range out of what is no address.
func (w *walker) leaveHole() {
	half := uint(w.s.form.width) - 1
	if !w.s.form.canonical(w.from) {
		w.from = ^VirtAddr(0) << half
	}
	if !w.s.form.canonical(w.last) {
		w.last = 1<<half - 1
	}
}

// table yields the leaves below one table, whose first entry covers base. It
// reports whether to go on.
func (w *walker) table(level int, a PhysAddr, base VirtAddr, perm uint64) bool {
	t := w.s.form
	n := t.count(level)
	buf := w.buf[level-1][:n*int(t.entry)]
	if _, err := w.s.m.ReadAt(buf, a); err != nil {
		return w.yield(Mapping{Virt: base}, err)
	}
	shift, top := t.shift(level), level == int(t.levels)
	first, last := uint64(0), uint64(n-1)
	if top || w.from > base {
		first = t.index(w.from, level)
	}
	if end := base + 1<<(shift+uint(t.bits)) - 1; top || w.last < end {
		last = t.index(w.last, level)
	}
	for i := first; i <= last; i++ {
		pte := t.load(buf, i)
		if pte&ptePresent == 0 {
			continue
		}
		va := base + VirtAddr(i<<shift)
		if top && t.long() && i >= uint64(n/2) {
			va |= ^VirtAddr(0) << t.width // sign extension
		}
		p := t.pathPerm(perm, pte, level)
		if t.isLeaf(pte, level) {
			if !w.yield(Mapping{
				Virt: va, Phys: t.leafAddr(pte, level), Size: 1 << shift,
				Writable: p&pteWritable != 0, User: p&pteUser != 0, NoExec: p&pteNoExec != 0,
			}, nil) {
				return false
			}
			continue
		}
		if !w.table(level-1, PhysAddr(pte&pteAddr), va, p) {
			return false
		}
	}
	return true
}
