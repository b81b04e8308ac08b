package breakpoint

import (
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Recorder is a [Domain] that keeps, outside the process, what is patched in the
// guest's own frames, so that it can be put back should the process be killed.
// Package journal has one.
type Recorder interface {
	// Patching is called before a breakpoint may be armed for the first time: the
	// first byte of insn, at offset in the frame, will be an int3 at times. After
	// an error it is not.
	Patching(gfn xen.GFN, offset int, insn []byte) error
	// Unpatched is called when the byte is the guest's own for good.
	Unpatched(gfn xen.GFN, offset int)
}

// recorder is nil where nothing has to be recorded: a view goes with altp2m.
func (e *Engine) recorder() Recorder {
	if e.views != nil {
		return nil
	}
	r, _ := e.dom.(Recorder)
	return r
}

// patching is called once for each place, before its first int3.
func (e *Engine) patching(at vmi.PhysAddr, insn []byte) error {
	if r := e.recorder(); r != nil {
		return r.Patching(at.GFN(), at.Offset(), insn)
	}
	return nil
}

func (e *Engine) unpatched(at vmi.PhysAddr) {
	if r := e.recorder(); r != nil {
		r.Unpatched(at.GFN(), at.Offset())
	}
}
