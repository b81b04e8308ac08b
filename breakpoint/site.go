package breakpoint

import (
	"slices"
	"sync/atomic"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// site is one patched instruction, shared by the breakpoints at its address.
type site struct {
	phys  vmi.PhysAddr
	frame *frame
	// code is replaced as a whole when the guest changes the instruction.
	code atomic.Pointer[code]
	// told are the breakpoints that a hit is for: those that are armed, or were
	// last, since events may be on their way. It is replaced as a whole.
	told atomic.Pointer[[]*Breakpoint]
	// inPlace says that the int3 is; it changes with engine.mu and placing held.
	inPlace atomic.Bool

	// Guarded by engine.mu.
	users, armed int // breakpoints there are, and those of them that are armed
}

// code is an instruction and the way past it.
type code struct {
	way    way
	length int      // 0 if it is not known
	insn   [16]byte // the original instruction, or a NOP like it, padded with NOPs
}

// newCode returns an error wrapping [ErrInstruction] if the strategy has no way
// past the instruction at the start of b.
func newCode(b []byte, s Strategy) (*code, error) {
	in, err := decode(b)
	if err != nil {
		return nil, err
	}
	w, err := s.over(&in)
	if err != nil {
		return nil, err
	}
	c := &code{way: w, length: in.length}
	for i := range c.insn {
		c.insn[i] = 0x90
	}
	copy(c.insn[:], b[:c.length])
	if in.endbr { // Xen's emulator is asked for what it surely knows
		copy(c.insn[:], []byte{0x0f, 0x1f, 0x40, 0x00})
	}
	return c, nil
}

// learn takes over what has become of the instruction behind its first byte,
// which is the same. It reports false if it is none to be stepped over any more.
func (s *site) learn(page []byte, how Strategy) bool {
	c, off := s.code.Load(), s.phys.Offset()
	if c.length == 0 || off+c.length > len(page) { // the rest is in another frame
		return true
	}
	now, err := newCode(page[off:min(len(page), off+maxInsn)], how)
	if err == nil && *now != *c {
		s.code.Store(now)
	}
	return err == nil
}

// tell runs the handlers of the breakpoints that a hit is for. The answer is
// that of the last one that wants more than to go on.
func (s *site) tell(r *xen.Request) (resp xen.Response) {
	for _, b := range *s.told.Load() {
		if b.when != nil && !b.when(r) {
			b.passed.Add(1)
			continue
		}
		if b.oneShot && !b.fire() {
			continue
		}
		b.hits.Add(1)
		if a := b.handler(r); a != (xen.Response{}) {
			resp = a
		}
	}
	return resp
}

// arm has hits told to b as well. The caller holds engine.mu and puts the int3 in
// place. A breakpoint that alone comes and goes costs no allocation.
func (s *site) arm(b *Breakpoint) {
	b.armed = true
	s.armed++
	told := *s.told.Load()
	switch {
	case len(told) == 1 && told[0] == b:
	case s.armed == 1: // the others are those that were told last
		s.told.Store(&b.alone)
	default:
		next := append(slices.Clip(told), b)
		s.told.Store(&next)
	}
}

// disarm ends that, unless b is the last: then what is on its way still counts.
func (s *site) disarm(b *Breakpoint) {
	b.armed = false
	s.armed--
	if s.armed > 0 {
		s.forget(b)
	}
}

// forget has no hit told to b any more.
func (s *site) forget(b *Breakpoint) {
	told := *s.told.Load()
	if slices.Contains(told, b) {
		next := slices.DeleteFunc(slices.Clone(told), func(c *Breakpoint) bool { return c == b })
		s.told.Store(&next)
	}
}
