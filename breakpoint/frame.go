package breakpoint

import (
	"errors"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// frame is a guest frame that holds breakpoints. It stays mapped until the
// engine closes, so that restoring needs no hypercall that could fail.
type frame struct {
	mapping vmi.Frames
	bytes   []byte
	// original holds, by offset, the first bytes of the instructions that have
	// breakpoints.
	original map[int]byte
	// shadow is not nil if bytes are a view's copy of the guest's frame.
	shadow *shadow
}

func mapFrame(frames vmi.FrameMapper, gfn xen.GFN, writable bool) (*frame, error) {
	m, err := frames.MapFrames([]xen.GFN{gfn}, writable)
	if err != nil {
		return nil, err
	}
	b, err := m.Frame(0)
	if err != nil {
		_ = m.Close() // the frame's own error says more
		return nil, err
	}
	return &frame{mapping: m, bytes: b, original: make(map[int]byte)}, nil
}

// close ends the mappings.
func (f *frame) close() error {
	err := f.mapping.Close()
	if f.shadow != nil {
		err = errors.Join(err, f.shadow.source.Close())
	}
	return err
}

// seen is what a vCPU executes of the frame, in the engine's view or outside.
func (f *frame) seen(inside bool) []byte {
	if f.shadow != nil && !inside {
		return f.shadow.guest
	}
	return f.bytes
}

// armable reports whether the byte at off is what it was when the breakpoint was
// inserted.
func (f *frame) armable(off int) bool { return f.bytes[off] == f.original[off] }

// arm patches the byte at off.
func (f *frame) arm(off int) { f.bytes[off] = int3 }

// disarm puts the byte at off back, unless the guest has patched over it: then
// what is there is the guest's own and newer. It reports whether it did.
func (f *frame) disarm(off int) bool {
	if f.bytes[off] != int3 {
		return false
	}
	f.bytes[off] = f.original[off]
	return true
}

// undo rewrites code, read from off on, to what it is without breakpoints.
func (f *frame) undo(code []byte, off int) {
	for at, b := range f.original {
		if i := at - off; i >= 0 && i < len(code) && code[i] == int3 {
			code[i] = b
		}
	}
}
