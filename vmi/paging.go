package vmi

import (
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/govmi/govmi/xen"
)

// AddressSpace is a guest's virtual address space: page tables of one of the
// forms that x86 has. It is a small value; copies are independent and cost nothing.
// Translations are not cached, only the frames of the tables are, so a change
// that the guest makes is seen by the next call.
type AddressSpace struct {
	m    *Memory
	root PhysAddr
	form tables
}

// AddressSpace returns the space of four-level page tables with root c. PCID
// and flags in c are ignored.
func (m *Memory) AddressSpace(c CR3) AddressSpace {
	return AddressSpace{m, fourLevel.root(c), fourLevel}
}

// AddressSpace5 returns the space of five-level page tables (CR4.LA57 set).
func (m *Memory) AddressSpace5(c CR3) AddressSpace {
	return AddressSpace{m, fiveLevel.root(c), fiveLevel}
}

// AddressSpacePAE returns the space of the page tables of 32-bit code with
// CR4.PAE set, whose root has 4 entries.
func (m *Memory) AddressSpacePAE(c CR3) AddressSpace {
	return AddressSpace{m, paeTables.root(c), paeTables}
}

// AddressSpace32 returns the space of the two-level page tables of 32-bit code
// without PAE.
func (m *Memory) AddressSpace32(c CR3) AddressSpace {
	return AddressSpace{m, oldTables.root(c), oldTables}
}

// Root returns the physical address of the top-level table.
func (s AddressSpace) Root() PhysAddr { return s.root }

// WithRoot returns the space with root c and tables of the same form as s.
func (s AddressSpace) WithRoot(c CR3) AddressSpace {
	s.root = s.form.root(c)
	return s
}

// Memory returns the physical memory that s lives in.
func (s AddressSpace) Memory() *Memory { return s.m }

// walk returns the leaf entry that maps va and its level: 1 for a page of 4 KiB,
// 2 for one of 2 MiB (4 MiB without PAE), 3 for one of 1 GiB.
func (s AddressSpace) walk(va VirtAddr) (pte uint64, level int, err error) {
	pte, level, err = s.find(va)
	if err == errAbsent {
		return 0, level, &NotPresentError{va, level, pte}
	}
	return pte, level, err
}

// errAbsent says that an entry is not present, without allocating.
var errAbsent = errors.New("absent")

// find is walk with errAbsent for an entry that is not present, which it returns;
// the level is 0 for an address that is not canonical.
func (s AddressSpace) find(va VirtAddr) (pte uint64, level int, err error) {
	t := s.form
	if !t.canonical(va) {
		return 0, 0, errAbsent
	}
	table := s.root
	for level = int(t.levels); ; level-- {
		pte, err = s.entry(table, t.index(va, level))
		if err != nil {
			return 0, level, err
		}
		if pte&ptePresent == 0 {
			return pte, level, errAbsent
		}
		if t.isLeaf(pte, level) {
			return pte, level, nil
		}
		table = PhysAddr(pte & pteAddr)
	}
}

// entry reads entry i of a table.
func (s AddressSpace) entry(table PhysAddr, i uint64) (uint64, error) {
	if s.form.entry == 4 {
		pair, err := s.m.Uint64(table + PhysAddr(i/2*8))
		return pair >> (i % 2 * 32) & 0xffffffff, err
	}
	return s.m.Uint64(table + PhysAddr(8*i))
}

// Translate returns the physical address behind va. If the guest does not map
// va the error matches [ErrNotPresent], and [ErrPagedOut] if it notes something
// else there; if a table's frame cannot be mapped, [ErrNotMapped]. Permissions are not checked.
func (s AddressSpace) Translate(va VirtAddr) (PhysAddr, error) {
	if pa, ok := s.warm(va); ok {
		return pa, nil
	}
	pte, level, err := s.walk(va)
	if err != nil {
		return 0, err
	}
	return s.form.within(pte, level, va), nil
}

// Mapped is Translate for who does not ask why va is not mapped, and asks often: it
// does not allocate for a page that is not present.
func (s AddressSpace) Mapped(va VirtAddr) (PhysAddr, bool) {
	if pa, ok := s.warm(va); ok {
		return pa, true
	}
	pte, level, err := s.find(va)
	if err != nil {
		return 0, false
	}
	return s.form.within(pte, level, va), true
}

// warm translates va by what is in the cache.
func (s AddressSpace) warm(va VirtAddr) (PhysAddr, bool) {
	s.m.mu.RLock()
	pa, _ := s.cachedAddr(va)
	s.m.mu.RUnlock()
	return pa, pa != noAddr
}

// Read reads len(p) bytes at va. It returns the number of bytes read before
// the first page that is not present or cannot be mapped.
func (s AddressSpace) Read(va VirtAddr, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if left := len(p) - n; left > manyPages*xen.PageSize {
			s.mapAhead(va, left)
		}
		f, err := s.acquire(va)
		if err != nil {
			return n, err
		}
		c := copy(p[n:], f)
		s.m.mu.RUnlock()
		n += c
		va += VirtAddr(c)
	}
	return n, nil
}

// manyPages is from where on a read maps all its pages at once, and not the
// neighbours of each.
const manyPages = 8

// mapAhead maps what the cache lacks of n bytes at va, as far as one call goes,
// unless it has the first of them. What fails shows when it is read.
func (s AddressSpace) mapAhead(va VirtAddr, n int) {
	s.m.mu.RLock()
	f := s.cached(va)
	s.m.mu.RUnlock()
	if f != nil {
		return
	}
	var gfns []xen.GFN
	for off := VirtAddr(0); off < VirtAddr(n) && len(gfns) < s.m.ahead; {
		pa, err := s.Translate(va + off)
		if err != nil {
			break
		}
		gfns = append(gfns, pa.GFN())
		off += xen.PageSize - VirtAddr(pa.Offset())
	}
	if len(gfns) > 0 {
		_ = s.m.mapAll(gfns, gfns[0])
	}
}

// Uint8 reads the byte at va.
func (s AddressSpace) Uint8(va VirtAddr) (uint8, error) {
	v, err := s.uint(va, 1)
	return uint8(v), err
}

// Uint16 reads the little-endian number at va.
func (s AddressSpace) Uint16(va VirtAddr) (uint16, error) {
	v, err := s.uint(va, 2)
	return uint16(v), err
}

// Uint32 reads the little-endian number at va.
func (s AddressSpace) Uint32(va VirtAddr) (uint32, error) {
	v, err := s.uint(va, 4)
	return uint32(v), err
}

// Uint64 reads the little-endian number at va.
func (s AddressSpace) Uint64(va VirtAddr) (uint64, error) {
	return s.uint(va, 8)
}

func (s AddressSpace) uint(va VirtAddr, size int) (uint64, error) {
	off := int(va & (xen.PageSize - 1))
	if off > xen.PageSize-size {
		// Across pages; byte by byte, as a buffer for Read would escape.
		var v uint64
		for i := range size {
			b, err := s.uint(va+VirtAddr(i), 1)
			if err != nil {
				return 0, err
			}
			v |= b << (8 * i)
		}
		return v, nil
	}
	f, err := s.acquire(va)
	if err != nil {
		return 0, err
	}
	var v uint64
	switch size {
	case 1:
		v = uint64(f[0])
	case 2:
		v = uint64(binary.LittleEndian.Uint16(f))
	case 4:
		v = uint64(binary.LittleEndian.Uint32(f))
	default:
		v = binary.LittleEndian.Uint64(f)
	}
	s.m.mu.RUnlock()
	return v, nil
}

// acquire returns the bytes from va to the end of its page, with the memory's
// lock held for reading; on an error it is not held.
func (s AddressSpace) acquire(va VirtAddr) ([]byte, error) {
	s.m.mu.RLock()
	if f := s.cached(va); f != nil {
		return f, nil
	}
	s.m.mu.RUnlock()
	pa, err := s.Translate(va)
	if err != nil {
		return nil, err
	}
	p, err := s.m.acquire(pa.GFN())
	if err != nil {
		return nil, err
	}
	return p.data[pa.Offset():], nil
}

// cached is acquire under one lock for all tables, which the caller holds. It
// returns nil if a frame is not in the cache or va is not mapped.
func (s AddressSpace) cached(va VirtAddr) []byte {
	pa, hint := s.cachedAddr(va)
	if pa == noAddr {
		return nil
	}
	p := hint.Load()
	if p == nil || p.gfn != pa.GFN() {
		if p = s.m.cache.correct(hint, pa.GFN()); p == nil {
			return nil
		}
	}
	p.in.touch()
	return p.data[pa.Offset():]
}

// noAddr is no physical address.
const noAddr = ^PhysAddr(0)

// cachedAddr translates va by tables that are in the cache, or returns noAddr. It
// returns the hint to the page of va as well. The caller holds the memory's lock.
func (s AddressSpace) cachedAddr(va VirtAddr) (PhysAddr, *atomic.Pointer[page]) {
	if s.form.long() {
		return s.m.cache.longWalk(s.root, s.form.shift(int(s.form.levels)), va)
	}
	t := s.form
	if !t.canonical(va) {
		return noAddr, nil
	}
	c := &s.m.cache
	h := c.hints(s.root, va)
	table := s.root
	for i, level := 0, int(t.levels); level > 0; i, level = i+1, level-1 {
		p := c.lookup(table.GFN())
		if p == nil {
			break
		}
		pte := t.load(p.data[table.Offset():], t.index(va, level))
		if pte&ptePresent == 0 {
			break
		}
		if t.isLeaf(pte, level) {
			return t.within(pte, level, va), &h[i+1]
		}
		table = PhysAddr(pte & pteAddr)
	}
	return noAddr, nil
}
