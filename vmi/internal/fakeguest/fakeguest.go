// Package fakeguest is a guest's memory for tests: sparse frames, page tables
// that a test builds, and a record of what is mapped.
package fakeguest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Flags of page-table entries, as [Memory.Map] takes them.
const (
	Present  = 1 << 0
	Writable = 1 << 1
	User     = 1 << 2
	Large    = 1 << 7
	NoExec   = 1 << 63
)

// ErrNoFrame is the error of a frame that the guest does not have.
var ErrNoFrame = errors.New("no such frame")

// Memory is a fake guest's physical memory. It implements [vmi.FrameMapper].
type Memory struct {
	mu     sync.Mutex
	frames map[xen.GFN]*[xen.PageSize]byte
	next   xen.GFN
	stats  Stats

	// Private makes each mapping a copy that is overwritten with 0xee when it
	// is unmapped, so that a use after that shows in the data and under the
	// race detector.
	Private bool
	// Err, if set, is returned by MapFrames.
	Err error
}

// Stats counts what was asked of the memory.
type Stats struct {
	Calls  int // of MapFrames
	Mapped int // frames mapped now, failed ones included
}

// New returns a memory without frames. [Memory.Alloc] goes upwards from the
// highest frame in use, and never hands out frame 0.
func New() *Memory {
	return &Memory{frames: make(map[xen.GFN]*[xen.PageSize]byte), next: 1}
}

// Stats returns the counts up to now.
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Alloc adds a zeroed frame and returns its address.
func (m *Memory) Alloc() vmi.PhysAddr { return m.AllocRun(1) }

// AllocRun adds n neighbouring zeroed frames.
func (m *Memory) AllocRun(n int) vmi.PhysAddr {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.next
	for range n {
		m.frame(m.next)
	}
	return vmi.PhysAddr(first << xen.PageShift)
}

// frame returns a frame, adding it if needed. The caller holds mu.
func (m *Memory) frame(g xen.GFN) *[xen.PageSize]byte {
	f := m.frames[g]
	if f == nil {
		f = new([xen.PageSize]byte)
		m.frames[g] = f
		m.next = max(m.next, g+1)
	}
	return f
}

// Remove takes a frame from the guest. Mappings of it stay.
func (m *Memory) Remove(g xen.GFN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.frames, g)
}

// Write stores p at a and adds the frames that it needs.
func (m *Memory) Write(a vmi.PhysAddr, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(p) > 0 {
		n := copy(m.frame(a.GFN())[a.Offset():], p)
		p, a = p[n:], a+vmi.PhysAddr(n)
	}
}

// WriteUint64 stores v at a.
func (m *Memory) WriteUint64(a vmi.PhysAddr, v uint64) {
	m.Write(a, binary.LittleEndian.AppendUint64(nil, v))
}

func (m *Memory) uint64(a vmi.PhysAddr) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return binary.LittleEndian.Uint64(m.frame(a.GFN())[a.Offset():])
}

// Map adds to the tables of the given root and depth a leaf at level (1 for
// 4 KiB, 2 for 2 MiB, 3 for 1 GiB) that maps va to pa with the flags given;
// Present and, above level 1, Large are implied.
func (m *Memory) Map(root vmi.PhysAddr, levels int, va vmi.VirtAddr, pa vmi.PhysAddr, level int, flags uint64) {
	if level > 1 {
		flags |= Large
	}
	m.SetEntry(root, levels, va, level, uint64(pa)|Present|flags)
}

// SetEntry sets the entry for va at a level, and adds the tables above it.
func (m *Memory) SetEntry(root vmi.PhysAddr, levels int, va vmi.VirtAddr, level int, entry uint64) {
	table := root
	for l := levels; ; l-- {
		slot := table + vmi.PhysAddr(uint64(va)>>(12+9*(l-1))&511*8)
		if l == level {
			m.WriteUint64(slot, entry)
			return
		}
		pte := m.uint64(slot)
		if pte&Present == 0 {
			pte = uint64(m.Alloc()) | Present | Writable | User
			m.WriteUint64(slot, pte)
		}
		table = vmi.PhysAddr(pte & (1<<52 - 1<<12))
	}
}

// MapFrames implements [vmi.FrameMapper].
func (m *Memory) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Calls++
	if m.Err != nil {
		return nil, m.Err
	}
	f := &frames{m: m, data: make([][]byte, len(gfns)), gfns: slices.Clone(gfns)}
	for i, g := range gfns {
		if p := m.frames[g]; p != nil {
			f.data[i] = p[:]
			if m.Private {
				f.data[i] = slices.Clone(p[:])
			}
		}
	}
	m.stats.Mapped += len(gfns)
	return f, nil
}

type frames struct {
	m      *Memory
	gfns   []xen.GFN
	data   [][]byte
	closed bool
}

func (f *frames) Len() int { return len(f.data) }

func (f *frames) Frame(i int) ([]byte, error) {
	if f.data[i] == nil {
		return nil, fmt.Errorf("%w: %v", ErrNoFrame, f.gfns[i])
	}
	return f.data[i], nil
}

func (f *frames) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return errors.New("unmapped twice")
	}
	f.closed = true
	f.m.stats.Mapped -= len(f.data)
	if f.m.Private {
		for _, p := range f.data {
			for i := range p {
				p[i] = 0xee
			}
		}
	}
	return nil
}
