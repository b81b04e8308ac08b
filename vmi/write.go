package vmi

import (
	"github.com/govmi/govmi/xen"
)

// WriteAt writes p to the guest's memory at a. It returns the number of bytes
// written before the first frame that cannot be mapped; the error then matches
// [ErrNotMapped], as it does where the memory cannot be written, of a dump for
// example. Nothing is cached of it: a write maps and unmaps, 2 MiB by a call.
//
// The guest runs meanwhile unless it is paused, and sees a write of several bytes
// in parts. What it relies on is the caller's to know, and to put back.
func (m *Memory) WriteAt(p []byte, a PhysAddr) (int, error) {
	return m.write(p, func(off int) (PhysAddr, error) { return a + PhysAddr(off), nil })
}

// Write writes p at va, whatever the page tables' permissions are. It is as
// [Memory.WriteAt], with the errors of [AddressSpace.Translate] as well. A page that
// processes share, as of a file or after a fork, is written for all of them.
func (s AddressSpace) Write(va VirtAddr, p []byte) (int, error) {
	return s.m.write(p, func(off int) (PhysAddr, error) { return s.Translate(va + VirtAddr(off)) })
}

// write writes p, whose byte off belongs at place(off).
func (m *Memory) write(p []byte, place func(off int) (PhysAddr, error)) (n int, err error) {
	for n < len(p) && err == nil {
		var wrote int
		wrote, err = m.writeSome(p[n:], func(off int) (PhysAddr, error) { return place(n + off) })
		n += wrote
	}
	return n, err
}

// writeSome writes as much of p as one call maps, but for what follows an error.
func (m *Memory) writeSome(p []byte, place func(off int) (PhysAddr, error)) (n int, err error) {
	m.mu.RLock()
	closed := m.closed
	m.mu.RUnlock()
	if closed {
		return 0, ErrClosed
	}
	var gfns []xen.GFN
	var first PhysAddr
	for end := 0; end < len(p) && len(gfns) < maxAhead; {
		pa, perr := place(end)
		if perr == nil && pa.GFN() > maxGFN {
			perr = beyond(pa.GFN())
		}
		if perr != nil {
			if end == 0 {
				return 0, perr
			}
			p, err = p[:end], perr // what comes before it is written
			break
		}
		if end == 0 {
			first = pa
		}
		gfns = append(gfns, pa.GFN())
		end += xen.PageSize - int(pa.Offset())
	}
	if len(gfns) == 0 {
		return 0, nil
	}
	frames, merr := m.src.MapFrames(gfns, true)
	if merr != nil {
		return 0, &NotMappedError{gfns[0], merr}
	}
	off := first.Offset()
	for i, g := range gfns {
		data, ferr := frames.Frame(i)
		if ferr != nil {
			err = &NotMappedError{g, ferr}
			break
		}
		n += copy(data[off:], p[n:])
		off = 0
	}
	if cerr := frames.Close(); err == nil {
		err = cerr
	}
	return n, err
}
