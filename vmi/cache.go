package vmi

import (
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

// page is a frame in the cache.
type page struct {
	gfn  xen.GFN
	data []byte
	in   *mapping
}

// recentPages is the number of pages that are found without the map: a
// translation looks up five.
const recentPages = 1024

// cache holds pages by their frames. It is bounded by the frames of its mappings,
// those that failed included. A mapping is taken out as a whole, in clock order.
type cache struct {
	pages  map[xen.GFN]*page
	recent [recentPages]atomic.Pointer[page] // by the low bits of the frame
	clock  []*mapping
	hand   int
	max    int // frames
	frames int
	pinned int // frames
}

// lookup returns the bytes of frame g, or nil. Several goroutines may call it at
// a time.
func (c *cache) lookup(g xen.GFN) []byte {
	slot := &c.recent[g%recentPages]
	p := slot.Load()
	if p == nil || p.gfn != g {
		if p = c.pages[g]; p == nil {
			return nil
		}
		slot.Store(p)
	}
	if !p.in.used.Load() {
		p.in.used.Store(true)
	}
	return p.data
}

// insert adds the pages that the cache lacks and returns what is to be unmapped.
func (c *cache) insert(m *mapping, data [][]byte) []Frames {
	added := false
	for i, g := range m.gfns {
		if _, ok := c.pages[g]; !ok && data[i] != nil {
			c.pages[g] = &page{g, data[i], m}
			added = true
		}
	}
	if !added {
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
		return p.data, nil
	}
	if c.pinned+len(p.in.gfns) > c.max/2 {
		return nil, ErrPinned
	}
	p.in.pinned = true
	c.pinned += len(p.in.gfns)
	return p.data, nil
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
