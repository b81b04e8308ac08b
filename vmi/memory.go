package vmi

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/govmi/govmi/xen"
)

// MemoryOptions tune a [Memory]; nil means the defaults.
type MemoryOptions struct {
	// MaxFrames bounds the frames that are mapped at a time. Default 8192.
	MaxFrames int
	// Batch is the number of neighbouring frames mapped by one call when one
	// of them is read; it is rounded up to a power of two. Default 32.
	Batch int
}

const (
	defaultMaxFrames = 8192
	defaultBatch     = 32
	maxBatch         = 1024
	// maxAhead is the number of frames that one call maps for a long read: 2 MiB.
	maxAhead = 512
)

// Memory is a guest's physical memory. It is read through a bounded cache of mapped
// frames. The mappings are live: what the guest writes is seen at once. All
// methods are safe for concurrent use. A read whose frames are in the cache
// neither maps nor allocates; a longer one maps what it lacks of 2 MiB at once.
//
// A mapping outlives the guest's own use of the frame: after the guest gives
// a frame back (ballooning), Invalidate makes later reads see the new one.
type Memory struct {
	src   FrameMapper
	batch int // frames, a power of two
	ahead int // frames
	fill  sync.Mutex

	// mu is held for reading while bytes are copied out of a mapping, and for
	// writing while mappings are taken out of the cache; they are unmapped only
	// after that.
	mu     sync.RWMutex
	cache  cache
	closed bool
}

// NewMemory returns a Memory that maps frames with src, read-only.
func NewMemory(src FrameMapper, opts *MemoryOptions) *Memory {
	var o MemoryOptions
	if opts != nil {
		o = *opts
	}
	if o.MaxFrames <= 0 {
		o.MaxFrames = defaultMaxFrames
	}
	if o.Batch <= 0 {
		o.Batch = defaultBatch
	}
	m := &Memory{src: src, batch: 1}
	for m.batch < min(o.Batch, maxBatch) {
		m.batch *= 2
	}
	m.cache.pages, m.cache.max = make(map[xen.GFN]*page), max(o.MaxFrames, 2*m.batch)
	m.ahead = min(maxAhead, max(m.cache.max/4, m.batch))
	return m
}

// acquire returns frame g with mu held for reading; on an error mu is not held.
func (m *Memory) acquire(g xen.GFN) (*page, error) {
	// A frame can be evicted between load and the lock, but not for ever: a
	// fresh mapping is marked as used.
	for {
		m.mu.RLock()
		if p := m.cache.lookup(g); p != nil {
			return p, nil
		}
		closed := m.closed
		m.mu.RUnlock()
		if closed {
			return nil, ErrClosed
		}
		if err := m.load(g); err != nil {
			return nil, err
		}
	}
}

// maxGFN is the highest frame of the physical address space.
const maxGFN = xen.GFN(1)<<(52-xen.PageShift) - 1

func beyond(g xen.GFN) error {
	return &NotMappedError{g, errors.New("beyond the physical address space")}
}

// load maps frame g and its neighbours into the cache. A neighbour that fails is
// left out; it is tried again when it is read.
func (m *Memory) load(g xen.GFN) error {
	if g > maxGFN {
		return beyond(g)
	}
	gfns := make([]xen.GFN, m.batch)
	for i := range gfns {
		gfns[i] = g&^xen.GFN(m.batch-1) + xen.GFN(i)
	}
	return m.mapAll(gfns, g)
}

// mapAll maps those of the frames that the cache lacks, by one call, and returns
// the error of frame want.
func (m *Memory) mapAll(gfns []xen.GFN, want xen.GFN) error {
	m.fill.Lock()
	defer m.fill.Unlock()

	m.mu.RLock()
	closed, there := m.closed, m.cache.lookup(want) != nil
	lacking := gfns[:0]
	for _, g := range gfns {
		if m.cache.lookup(g) == nil {
			lacking = append(lacking, g)
		}
	}
	m.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	if there || len(lacking) == 0 {
		return nil // another goroutine was faster
	}
	frames, err := m.src.MapFrames(lacking, false)
	if err != nil {
		return &NotMappedError{want, err}
	}
	data := make([]*[xen.PageSize]byte, len(lacking))
	for i, g := range lacking {
		p, ferr := frames.Frame(i)
		if ferr == nil && len(p) != xen.PageSize {
			ferr = errors.New("mapper returned a short frame")
		}
		if ferr == nil {
			data[i] = (*[xen.PageSize]byte)(p)
		} else if g == want {
			err = &NotMappedError{g, ferr}
		}
	}
	var old []Frames
	m.mu.Lock()
	if m.closed {
		old = []Frames{frames} // the next lookup reports ErrClosed
	} else {
		old = m.cache.insert(&mapping{gfns: lacking, frames: frames}, data)
	}
	m.mu.Unlock()
	return errors.Join(err, closeAll(old))
}

// acquireRun is acquire of the frame at a, for a read of n bytes from there on.
func (m *Memory) acquireRun(a PhysAddr, n int) (*page, error) {
	m.mu.RLock()
	if p := m.cache.lookup(a.GFN()); p != nil {
		return p, nil
	}
	m.mu.RUnlock()
	if last := (a + PhysAddr(n) - 1).GFN(); last > a.GFN() && last <= maxGFN {
		// What fails of this shows when it is read.
		mask := xen.GFN(m.batch - 1)
		gfns := make([]xen.GFN, 0, m.ahead)
		for g := a.GFN() &^ mask; g <= last|mask && len(gfns) < m.ahead; g++ {
			gfns = append(gfns, g)
		}
		_ = m.mapAll(gfns, a.GFN())
	}
	return m.acquire(a.GFN())
}

// ReadAt reads len(p) bytes at a. It returns the number of bytes read before
// the first frame that cannot be mapped; the error then matches
// [ErrNotMapped].
func (m *Memory) ReadAt(p []byte, a PhysAddr) (int, error) {
	n := 0
	for n < len(p) {
		f, err := m.acquireRun(a, len(p)-n)
		if err != nil {
			return n, err
		}
		c := m.copyRun(p[n:], f, a)
		m.mu.RUnlock()
		n += c
		a += PhysAddr(c)
	}
	return n, nil
}

// longestRun is the number of frames that are copied under one lock: more would
// keep those waiting who want to map something.
const longestRun = 64

// copyRun copies from page f, that of address a, and from those behind it as far as
// the cache has them. The caller holds the lock.
func (m *Memory) copyRun(p []byte, f *page, a PhysAddr) (n int) {
	for range longestRun {
		n += copy(p[n:], f.data[(a+PhysAddr(n)).Offset():])
		if n == len(p) || f.gfn == maxGFN {
			break
		}
		if f = m.cache.after(f); f == nil {
			break
		}
	}
	return n
}

// Uint64 reads the little-endian number at a, which may cross frames. A read
// of an aligned number is one load: it never sees half of a guest's store.
func (m *Memory) Uint64(a PhysAddr) (uint64, error) {
	if off := a.Offset(); off <= xen.PageSize-8 {
		f, err := m.acquire(a.GFN())
		if err != nil {
			return 0, err
		}
		v := binary.LittleEndian.Uint64(f.data[off:])
		m.mu.RUnlock()
		return v, nil
	}
	var b [8]byte
	if _, err := m.ReadAt(b[:], a); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Page returns frame g's live bytes, which must not be written. They stay
// mapped until Close, with what was mapped by the same call: at most half of the
// cache can be handed out this way; beyond that Page fails with [ErrPinned].
func (m *Memory) Page(g xen.GFN) ([]byte, error) {
	for {
		if _, err := m.acquire(g); err != nil {
			return nil, err
		}
		m.mu.RUnlock()

		m.mu.Lock()
		p, err := m.cache.pin(g)
		m.mu.Unlock()
		if p != nil || err != nil { // otherwise evicted in between
			return p, err
		}
	}
}

// Invalidate unmaps all frames except those that [Memory.Page] handed out.
func (m *Memory) Invalidate() error {
	m.mu.Lock()
	old := m.cache.clear(false)
	m.mu.Unlock()
	return closeAll(old)
}

// Close unmaps all frames. It waits for reads in progress; slices from
// [Memory.Page] must not be used any more. Later reads fail with [ErrClosed].
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	old := m.cache.clear(true)
	m.mu.Unlock()
	return closeAll(old)
}
