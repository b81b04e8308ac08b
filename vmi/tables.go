package vmi

import (
	"encoding/binary"

	"github.com/govmi/govmi/xen"
)

// Bits of a page-table entry (Intel SDM volume 3, 4.3 to 4.5; the same on AMD).
const (
	ptePresent  = 1 << 0
	pteWritable = 1 << 1
	pteUser     = 1 << 2
	ptePageSize = 1 << 7 // above level 1: a leaf
	pteNoExec   = 1 << 63
	pteAddr     = 1<<52 - 1<<xen.PageShift
)

// tables is a form of page tables. Level 1 has the leaves for 4 KiB.
type tables struct {
	levels int8
	leaf   int8  // the highest level that can have leaves
	width  uint8 // bits of a virtual address
	bits   uint8 // bits of it that index one table
	entry  uint8 // bytes of an entry
}

var (
	fourLevel = tables{levels: 4, leaf: 3, width: 48, bits: 9, entry: 8}
	fiveLevel = tables{levels: 5, leaf: 3, width: 57, bits: 9, entry: 8}
	// paeTables have a root of 4 entries, which have no permissions.
	paeTables = tables{levels: 3, leaf: 2, width: 32, bits: 9, entry: 8}
	// oldTables are those without PAE; 4 MiB pages reach above 4 GiB (PSE-36).
	oldTables = tables{levels: 2, leaf: 2, width: 32, bits: 10, entry: 4}
)

// shift returns the base-2 logarithm of the size that one entry of a level's
// table covers: 12 at level 1, with four levels 39 at the root.
func (t tables) shift(level int) uint { return xen.PageShift + uint(t.bits)*uint(level-1) }

func (t tables) long() bool { return t.width > 32 }

// canonical reports whether va is an address at all.
func (t tables) canonical(va VirtAddr) bool {
	if !t.long() {
		return va>>32 == 0
	}
	shift := 64 - uint(t.width)
	return VirtAddr(int64(va)<<shift>>shift) == va
}

// index returns the number of va's entry in its table of a level.
func (t tables) index(va VirtAddr, level int) uint64 {
	return uint64(va) >> t.shift(level) & (1<<t.bits - 1)
}

// count returns the number of entries of a level's table.
func (t tables) count(level int) int {
	if level == int(t.levels) {
		return 1 << (uint(t.width) - t.shift(level))
	}
	return 1 << t.bits
}

// load returns entry i of the table whose bytes p begins with.
func (t tables) load(p []byte, i uint64) uint64 {
	if t.entry == 4 {
		return uint64(binary.LittleEndian.Uint32(p[4*i:]))
	}
	return binary.LittleEndian.Uint64(p[8*i:])
}

// isLeaf reports whether a present entry maps a page.
func (t tables) isLeaf(pte uint64, level int) bool {
	return level == 1 || level <= int(t.leaf) && pte&ptePageSize != 0
}

// within returns the address behind va, which a leaf entry maps.
func (t tables) within(pte uint64, level int, va VirtAddr) PhysAddr {
	return t.leafAddr(pte, level) + PhysAddr(va)&(1<<t.shift(level)-1)
}

// leafAddr returns the address of the page that a leaf entry maps.
func (t tables) leafAddr(pte uint64, level int) PhysAddr {
	if t.entry == 4 && level == 2 {
		return PhysAddr(pte&0xffc00000 | pte>>13&0xff<<32)
	}
	return PhysAddr(pte & pteAddr &^ (1<<t.shift(level) - 1))
}

// pathPerm returns the permissions below a table with permissions perm: writable
// and user need the bit at every level, no-execute at one.
func (t tables) pathPerm(perm, pte uint64, level int) uint64 {
	if t == paeTables && level == int(t.levels) {
		return perm
	}
	return perm&pte&(pteWritable|pteUser) | (perm|pte)&pteNoExec
}

// root returns where the root table is. That of PAE need not begin a page.
func (t tables) root(c CR3) PhysAddr {
	if t == paeTables {
		return PhysAddr(c & 0xffffffe0)
	}
	return c.Root()
}
