package vmi

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

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
)

// Memory reads a guest's physical memory through a bounded cache of mapped
// frames. The mappings are live: what the guest writes is seen at once. All
// methods are safe for concurrent use. A read whose frames are in the cache
// neither maps nor allocates.
//
// A mapping outlives the guest's own use of the frame: after the guest gives
// a frame back (ballooning), Invalidate makes later reads see the new one.
type Memory struct {
	src   FrameMapper
	shift uint // log2 of frames per batch
	max   int  // batches
	fill  sync.Mutex

	// mu is held for reading while bytes are copied out of a mapping, and for
	// writing while batches are taken out of the cache; a batch is unmapped
	// only after it was taken out.
	mu     sync.RWMutex
	byNum  map[uint64]*batch
	ring   []*batch // clock order
	hand   int
	pinned int // batches
	closed bool
}

type batch struct {
	num    uint64
	frames Frames
	data   [][]byte // nil where the frame failed
	used   atomic.Bool
	pinned bool
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
	m := &Memory{src: src, byNum: make(map[uint64]*batch)}
	for 1<<m.shift < min(o.Batch, maxBatch) {
		m.shift++
	}
	m.max = max(o.MaxFrames>>m.shift, 2)
	return m
}

// lookup returns the cached bytes of frame g, or nil. The caller holds mu.
func (m *Memory) lookup(g xen.GFN) []byte {
	b := m.byNum[uint64(g)>>m.shift]
	if b == nil {
		return nil
	}
	if !b.used.Load() {
		b.used.Store(true)
	}
	return b.data[uint64(g)&(1<<m.shift-1)]
}

// acquire returns the bytes of frame g with mu held for reading; on an error
// mu is not held.
func (m *Memory) acquire(g xen.GFN) ([]byte, error) {
	// A batch can be evicted between load and the lock, but not for ever: a
	// fresh batch is marked as used.
	for {
		m.mu.RLock()
		if p := m.lookup(g); p != nil {
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

// load maps the batch of frame g into the cache and evicts what is too much.
// A failed neighbour is left out; it is tried again when it is read.
func (m *Memory) load(g xen.GFN) error {
	m.fill.Lock()
	defer m.fill.Unlock()

	m.mu.RLock()
	p, closed := m.lookup(g), m.closed
	m.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	if p != nil {
		return nil // another goroutine was faster
	}
	if g >= 1<<(52-xen.PageShift) {
		return &NotMappedError{g, errors.New("beyond the physical address space")}
	}

	n := 1 << m.shift
	num := uint64(g) >> m.shift
	gfns := make([]xen.GFN, n)
	for i := range gfns {
		gfns[i] = xen.GFN(num<<m.shift + uint64(i))
	}
	frames, err := m.src.MapFrames(gfns, false)
	if err != nil {
		return &NotMappedError{g, err}
	}
	b := &batch{num: num, frames: frames, data: make([][]byte, n)}
	b.used.Store(true)
	want := int(uint64(g) & uint64(n-1))
	for i := range b.data {
		p, err := frames.Frame(i)
		if err == nil && len(p) != xen.PageSize {
			err = errors.New("mapper returned a short frame")
		}
		if err != nil {
			if i == want {
				return errors.Join(&NotMappedError{g, err}, frames.Close())
			}
			continue
		}
		b.data[i] = p
	}

	m.mu.Lock()
	old := m.insert(b)
	m.mu.Unlock()
	return closeAll(old)
}

// insert adds b and returns the frames to unmap, of at most two batches. The
// caller holds mu for writing.
func (m *Memory) insert(b *batch) []Frames {
	if m.closed {
		return []Frames{b.frames} // the next lookup reports ErrClosed
	}
	if old := m.byNum[b.num]; old != nil {
		if old.pinned {
			// Slices of it are in use: keep its mapping and add what was missing.
			old.adopt(b)
			return nil
		}
		for i, x := range m.ring {
			if x == old {
				m.ring[i] = b
			}
		}
		m.byNum[b.num] = b
		return []Frames{old.frames}
	}
	m.byNum[b.num] = b
	if len(m.ring) < m.max {
		m.ring = append(m.ring, b)
		return nil
	}
	// Second chance: at most two rounds, since at least one batch is not pinned.
	for {
		v := m.ring[m.hand]
		if !v.pinned && !v.used.Swap(false) {
			m.ring[m.hand] = b
			m.hand = (m.hand + 1) % len(m.ring)
			delete(m.byNum, v.num)
			return []Frames{v.frames}
		}
		m.hand = (m.hand + 1) % len(m.ring)
	}
}

// adopt takes over b's mapping for the frames that old lacks.
func (old *batch) adopt(b *batch) {
	for i, p := range b.data {
		if old.data[i] == nil {
			old.data[i] = p
		}
	}
	old.frames = joinedFrames{old.frames, b.frames}
}

// joinedFrames unmaps two mappings as one.
type joinedFrames [2]Frames

func (j joinedFrames) Len() int                    { return j[0].Len() }
func (j joinedFrames) Frame(i int) ([]byte, error) { return j[0].Frame(i) }
func (j joinedFrames) Close() error                { return errors.Join(j[0].Close(), j[1].Close()) }

func closeAll(fs []Frames) error {
	var err error
	for _, f := range fs {
		err = errors.Join(err, f.Close())
	}
	return err
}

// ReadAt reads len(p) bytes at a. It returns the number of bytes read before
// the first frame that cannot be mapped; the error then matches
// [ErrNotMapped].
func (m *Memory) ReadAt(p []byte, a PhysAddr) (int, error) {
	n := 0
	for n < len(p) {
		f, err := m.acquire(a.GFN())
		if err != nil {
			return n, err
		}
		c := copy(p[n:], f[a.Offset():])
		m.mu.RUnlock()
		n += c
		a += PhysAddr(c)
	}
	return n, nil
}

// Uint64 reads the little-endian number at a, which may cross frames. A read
// of an aligned number is one load: it never sees half of a guest's store.
func (m *Memory) Uint64(a PhysAddr) (uint64, error) {
	if off := a.Offset(); off <= xen.PageSize-8 {
		f, err := m.acquire(a.GFN())
		if err != nil {
			return 0, err
		}
		v := binary.LittleEndian.Uint64(f[off:])
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
// mapped until Close, so at most half of the cache can be handed out this
// way; beyond that Page fails with [ErrPinned].
func (m *Memory) Page(g xen.GFN) ([]byte, error) {
	for {
		if _, err := m.acquire(g); err != nil {
			return nil, err
		}
		m.mu.RUnlock()

		m.mu.Lock()
		p := m.lookup(g) // may have been evicted in between
		if p == nil {
			m.mu.Unlock()
			continue
		}
		b := m.byNum[uint64(g)>>m.shift]
		if !b.pinned {
			if m.pinned >= m.max/2 {
				m.mu.Unlock()
				return nil, ErrPinned
			}
			b.pinned = true
			m.pinned++
		}
		m.mu.Unlock()
		return p, nil
	}
}

// Invalidate unmaps all frames except those that [Memory.Page] handed out.
func (m *Memory) Invalidate() error {
	m.mu.Lock()
	var old []Frames
	keep := m.ring[:0]
	for _, b := range m.ring {
		if b.pinned {
			keep = append(keep, b)
			continue
		}
		delete(m.byNum, b.num)
		old = append(old, b.frames)
	}
	clear(m.ring[len(keep):])
	m.ring, m.hand = keep, 0
	m.mu.Unlock()
	return closeAll(old)
}

// Close unmaps all frames. It waits for reads in progress; slices from
// [Memory.Page] must not be used any more. Later reads fail with [ErrClosed].
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	var old []Frames
	for _, b := range m.ring {
		old = append(old, b.frames)
	}
	clear(m.byNum)
	m.ring, m.pinned = nil, 0
	m.mu.Unlock()
	return closeAll(old)
}
