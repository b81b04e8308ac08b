package vmi

import (
	"encoding/binary"
	"iter"

	"github.com/govmi/govmi/xen"
)

// Mapping is one leaf of a guest's page tables.
type Mapping struct {
	Virt VirtAddr
	Phys PhysAddr
	Size uint64 // bytes: 4 KiB, 2 MiB or 1 GiB
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
		w.table(int(s.levels), s.root, 0, pteWritable|pteUser)
	}
}

type walker struct {
	s          AddressSpace
	from, last VirtAddr
	yield      func(Mapping, error) bool
	buf        [5][xen.PageSize]byte // one table per level
}

// table yields the leaves below one table, whose first entry covers base. It
// reports whether to go on.
func (w *walker) table(level int, a PhysAddr, base VirtAddr, perm uint64) bool {
	buf := w.buf[level-1][:]
	if _, err := w.s.m.ReadAt(buf, a); err != nil {
		return w.yield(Mapping{Virt: base}, err)
	}
	shift := levelShift(level)
	first, last := uint64(0), uint64(511)
	if level == int(w.s.levels) {
		if !w.s.canonical(w.from) {
			w.from = ^VirtAddr(0) << (shift + 8)
		}
		if !w.s.canonical(w.last) {
			w.last = 1<<(shift+8) - 1
		}
		if w.from > w.last {
			return true
		}
	}
	if level == int(w.s.levels) || w.from > base {
		first = uint64(w.from) >> shift & 511
	}
	if end := base + 1<<(shift+9) - 1; level == int(w.s.levels) || w.last < end {
		last = uint64(w.last) >> shift & 511
	}
	for i := first; i <= last; i++ {
		pte := binary.LittleEndian.Uint64(buf[i*8:])
		if pte&ptePresent == 0 {
			continue
		}
		va := base + VirtAddr(i<<shift)
		if level == int(w.s.levels) && i >= 256 {
			va |= ^VirtAddr(0) << (shift + 9) // sign extension
		}
		// Writable and user need the bit at every level, no-execute at one.
		p := perm&pte&(pteWritable|pteUser) | (perm|pte)&pteNoExec
		if level == 1 || level <= 3 && pte&ptePageSize != 0 {
			if !w.yield(Mapping{
				Virt: va, Phys: leafAddr(pte, level), Size: 1 << shift,
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
