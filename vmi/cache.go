package vmi

import (
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/govmi/govmi/xen"
)

// mapping is what one call of the mapper mapped.
type mapping struct {
	gfns   []xen.GFN
	frames Frames
	used   atomic.Bool
	pinned bool
}

// page is a frame in the cache. Once it is taken out its frame is noGFN.
type page struct {
	gfn  xen.GFN
	data *[xen.PageSize]byte
	in   *mapping
	next *page // of the same mapping: often the frame behind this one
}

// noGFN is no frame: it is above maxGFN, and no address leads to it.
const noGFN = ^xen.GFN(0)

const (
	// recentPages is the number of pages that are found without the map.
	recentPages = 1024
	// maxWalk is the number of frames that an address leads through: five tables
	// and the page.
	maxWalk    = 6
	hintedBits = 9
)

// hints are the pages that a walk of page tables went through the last time, from
// the root on. They are guesses: a walk reads every entry anew, and takes a page
// from here only if it is of the frame that the entry names. So a change that the
// guest makes is seen at once, but the processor need not wait for one entry to
// fetch the next.
type hints [maxWalk]atomic.Pointer[page]

// cache holds pages by their frames. It is bounded by the frames of its mappings,
// those that failed included. A mapping is taken out as a whole, in clock order.
type cache struct {
	pages  map[xen.GFN]*page
	recent [recentPages]atomic.Pointer[page] // by the low bits of the frame
	walks  [1 << hintedBits]hints            // by a hash of the address
	clock  []*mapping
	hand   int
	max    int // frames
	frames int
	pinned int // frames
}

// lookup returns the page of frame g, or nil. Several goroutines may call it at
// a time.
func (c *cache) lookup(g xen.GFN) *page {
	slot := &c.recent[g%recentPages]
	p := slot.Load()
	if p == nil || p.gfn != g {
		if p = c.pages[g]; p == nil {
			return nil
		}
		slot.Store(p)
	}
	p.in.touch()
	return p
}

// after returns the page of the frame behind that of p, or nil.
func (c *cache) after(p *page) *page {
	g := p.gfn + 1
	if p.next != nil && p.next.gfn == g {
		return p.next
	}
	return c.lookup(g)
}

// touch keeps a mapping in the cache for another round of the clock.
func (m *mapping) touch() {
	if !m.used.Load() {
		m.used.Store(true)
	}
}

// hints returns those for the walk of the page at va from the table at root.
func (c *cache) hints(root PhysAddr, va VirtAddr) *hints {
	h := uint64(va>>xen.PageShift) ^ uint64(root>>xen.PageShift)<<32
	return &c.walks[h*0x9e3779b97f4a7c15>>(64-hintedBits)] // Fibonacci hashing
}

// correct is lookup for a hint that was wrong.
func (c *cache) correct(hint *atomic.Pointer[page], g xen.GFN) *page {
	p := c.lookup(g)
	if p != nil {
		hint.Store(p)
	}
	return p
}

// longWalk is the walk of four or five levels, of whose root an entry covers
// 1<<shift bytes. It is the one that tools do a million times a second.
func (c *cache) longWalk(root PhysAddr, shift uint, va VirtAddr) (PhysAddr, *atomic.Pointer[page]) {
	const indexBits, largest = 9, xen.PageShift + 2*9
	if sign := int64(va) >> ((shift + indexBits - 1) & 63); sign != 0 && sign != -1 {
		return noAddr, nil // not canonical
	}
	h := c.hints(root, va)
	table := uint64(root)
	for i := range maxWalk - 1 {
		g := xen.GFN(table >> xen.PageShift)
		p := h[i].Load()
		if p == nil || p.gfn != g {
			if p = c.correct(&h[i], g); p == nil {
				break
			}
		}
		p.in.touch()
		off := uint64(va) >> ((shift - 3) & 63) & (xen.PageSize - 8)
		pte := binary.LittleEndian.Uint64(p.data[off : off+8])
		if pte&ptePresent == 0 {
			break
		}
		if shift == xen.PageShift || pte&ptePageSize != 0 && shift <= largest {
			within := uint64(1)<<(shift&63) - 1
			return PhysAddr(pte&pteAddr&^within | uint64(va)&within), &h[i+1]
		}
		table = pte & pteAddr
		shift -= indexBits
	}
	return noAddr, nil
}

// insert adds the pages that the cache lacks and returns what is to be unmapped.
func (c *cache) insert(m *mapping, data []*[xen.PageSize]byte) []Frames {
	var last *page
	for i, g := range m.gfns {
		if _, ok := c.pages[g]; !ok && data[i] != nil {
			p := &page{gfn: g, data: data[i], in: m}
			if c.pages[g] = p; last != nil {
				last.next = p
			}
			last = p
		}
	}
	if last == nil {
		return []Frames{m.frames}
	}
	m.used.Store(true)
	old := c.shrink(c.max - len(m.gfns))
	c.clock = append(c.clock, m)
	c.frames += len(m.gfns)
	return old
}

// shrink takes out mappings until they have at most max frames, as far as they
// are not pinned: each gets a second chance.
func (c *cache) shrink(max int) (old []Frames) {
	for spared := 0; c.frames > max && spared < 2*len(c.clock); {
		c.hand %= len(c.clock)
		m := c.clock[c.hand]
		if m.pinned || m.used.Swap(false) {
			c.hand++
			spared++
			continue
		}
		c.clock = append(c.clock[:c.hand], c.clock[c.hand+1:]...)
		old = append(old, c.forget(m))
		spared = 0
	}
	return old
}

func (c *cache) forget(m *mapping) Frames {
	for _, g := range m.gfns {
		if p := c.pages[g]; p != nil && p.in == m {
			delete(c.pages, g)
			c.recent[g%recentPages].CompareAndSwap(p, nil)
			*p = page{gfn: noGFN} // hints may still lead to it
		}
	}
	c.frames -= len(m.gfns)
	return m.frames
}

// pin keeps frame g's mapping until the cache is emptied. It fails once half of
// the cache is pinned. It returns nil if the cache lacks the frame.
func (c *cache) pin(g xen.GFN) ([]byte, error) {
	p := c.pages[g]
	if p == nil {
		return nil, nil
	}
	if p.in.pinned {
		return p.data[:], nil
	}
	if c.pinned+len(p.in.gfns) > c.max/2 {
		return nil, ErrPinned
	}
	p.in.pinned = true
	c.pinned += len(p.in.gfns)
	return p.data[:], nil
}

// clear takes out all mappings, or all that are not pinned.
func (c *cache) clear(pinned bool) (old []Frames) {
	var keep []*mapping
	for _, m := range c.clock {
		if m.pinned && !pinned {
			keep = append(keep, m)
			continue
		}
		old = append(old, c.forget(m))
	}
	c.clock, c.hand = keep, 0
	if pinned {
		c.pinned = 0
	}
	return old
}

func closeAll(fs []Frames) error {
	var err error
	for _, f := range fs {
		err = errors.Join(err, f.Close())
	}
	return err
}
