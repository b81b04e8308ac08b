package breakpoint

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/arch/x86/x86asm"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// ErrExits reports a function of which it is not certain where it ends.
var ErrExits = errors.New("the function's exits cannot be told")

// Code is a piece of a function: its bytes as they are in memory, without
// breakpoints.
type Code struct {
	Addr  vmi.VirtAddr
	Bytes []byte
}

func (c Code) has(va vmi.VirtAddr) bool {
	return va >= c.Addr && va-c.Addr < vmi.VirtAddr(len(c.Bytes))
}

// Exit is an instruction by which a function ends: a return, or the jump to
// another function that returns in its place. Before it takes effect the stack
// pointer is what it was at the function's entry, and the return address is where
// it points to: a breakpoint there needs to change no stack.
type Exit struct {
	Addr vmi.VirtAddr
	// Tail is set for a jump, and Target is where it goes, 0 if a register says.
	Tail   bool
	Target vmi.VirtAddr

	cond  int // of a conditional jump, its condition code plus one
	reg   x86asm.Reg
	parts []Code
}

// Leaves reports whether the function ends when a vCPU with registers r executes
// the instruction: a conditional jump may not be taken, and one through a register
// may stay within the function.
func (e Exit) Leaves(r *xen.Registers) bool {
	switch {
	case e.cond > 0:
		return taken(e.cond-1, r.RFLAGS)
	case e.reg != 0:
		to := vmi.VirtAddr(register(r, e.reg))
		return !slices.ContainsFunc(e.parts, func(c Code) bool { return c.has(to) })
	}
	return true
}

// Exits returns the exits of a function in 64-bit code, in the order of their
// addresses in parts: the first begins with its entry, the others are what the
// compiler has moved elsewhere. A jump to an address that isReturn knows is a
// return: where the kernel returns through a thunk. A function without an exit
// never returns.
//
// The code is decoded from each part's beginning to its end, and all jumps within
// it must lead to instructions found that way. The error wraps [ErrExits] where
// they do not, and for what the decoder does not know, jump tables, and an int3
// that is no padding.
func Exits(isReturn func(vmi.VirtAddr) bool, parts ...Code) ([]Exit, error) {
	s := sweep{parts: parts, isReturn: isReturn}
	for _, c := range parts {
		starts, err := s.part(c)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrExits, err)
		}
		s.starts = append(s.starts, starts)
	}
	for _, b := range s.branches {
		if !s.starts[b.part][int(b.to-parts[b.part].Addr)] {
			return nil, fmt.Errorf("%w: the jump at %v leads into an instruction, at %v", ErrExits, b.from, b.to)
		}
	}
	return s.exits, nil
}

type sweep struct {
	parts    []Code
	isReturn func(vmi.VirtAddr) bool
	starts   []map[int]bool // by part, the offsets of instructions
	branches []branch
	exits    []Exit
}

// branch is a jump within the function.
type branch struct {
	from, to vmi.VirtAddr
	part     int
}

func (s *sweep) part(c Code) (starts map[int]bool, err error) {
	starts = map[int]bool{}
	ended := false // the instruction before goes nowhere further
	for off := 0; off < len(c.Bytes); {
		at := c.Addr + vmi.VirtAddr(off)
		insn, err := kernelInsn(c.Bytes[off:])
		if err != nil {
			return nil, fmt.Errorf("at %v: % x: %w", at, c.Bytes[off:min(len(c.Bytes), off+maxInsn)], err)
		}
		starts[off] = true
		if insn.Op == x86asm.INT && !ended && bytes.Count(c.Bytes[off:], []byte{int3}) != len(c.Bytes)-off {
			return nil, fmt.Errorf("there is an int3 at %v, a debugger's or another monitor's", at)
		}
		if ended, err = s.instruction(c, at, insn); err != nil {
			return nil, err
		}
		off += insn.Len
	}
	return starts, nil
}

// instruction notes what one instruction does to the flow, and whether what
// follows it is not reached from it.
func (s *sweep) instruction(c Code, at vmi.VirtAddr, insn x86asm.Inst) (ended bool, err error) {
	switch insn.Op {
	case x86asm.RET:
		s.exits = append(s.exits, Exit{Addr: at})
		return true, nil
	case x86asm.INT, x86asm.UD1, x86asm.UD2, x86asm.HLT:
		return true, nil
	case x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ, x86asm.SYSRET, x86asm.SYSEXIT,
		x86asm.JCXZ, x86asm.JECXZ, x86asm.JRCXZ, x86asm.LOOP, x86asm.LOOPE, x86asm.LOOPNE, x86asm.LJMP, x86asm.XBEGIN:
		return false, fmt.Errorf("there is %v at %v", insn.Op, at)
	}
	cond := condition(insn)
	if insn.Op != x86asm.JMP && cond < 0 {
		return false, nil
	}
	ended = cond < 0
	switch a := insn.Args[0].(type) {
	case x86asm.Rel:
		to := at + vmi.VirtAddr(insn.Len) + vmi.VirtAddr(int64(a))
		for i, p := range s.parts {
			if p.has(to) {
				s.branches = append(s.branches, branch{at, to, i})
				return ended, nil
			}
		}
		e := Exit{Addr: at, Tail: true, Target: to, cond: cond + 1}
		if s.isReturn(to) {
			e.Tail, e.Target = false, 0
		}
		s.exits = append(s.exits, e)
		return ended, nil
	case x86asm.Reg:
		s.exits = append(s.exits, Exit{Addr: at, Tail: true, reg: a, parts: s.parts})
		return ended, nil
	}
	return false, fmt.Errorf("there is a jump through memory at %v, a table's maybe", at)
}

// kernelInsn decodes one instruction. It knows what the kernel's code has and
// x86asm has not.
func kernelInsn(code []byte) (x86asm.Inst, error) {
	for _, known := range []string{
		"\xf3\x0f\x1e\xfa", // ENDBR64
		"\x0f\x01\xca",     // CLAC
		"\x0f\x01\xcb",     // STAC
		"\x0f\x01\xee",     // RDPKRU
		"\x0f\x01\xef",     // WRPKRU
		"\x0f\x01\xe8",     // SERIALIZE
	} {
		if len(code) >= len(known) && string(code[:len(known)]) == known {
			return x86asm.Inst{Op: x86asm.NOP, Len: len(known)}, nil
		}
	}
	insn, err := x86asm.Decode(code, 64)
	if err == nil && (insn.Op == 0 || insn.Len <= 0) {
		err = x86asm.ErrUnrecognized
	}
	return insn, err
}

// conditional are the conditional jumps by their condition codes.
var conditional = [16]x86asm.Op{
	x86asm.JO, x86asm.JNO, x86asm.JB, x86asm.JAE, x86asm.JE, x86asm.JNE, x86asm.JBE, x86asm.JA,
	x86asm.JS, x86asm.JNS, x86asm.JP, x86asm.JNP, x86asm.JL, x86asm.JGE, x86asm.JLE, x86asm.JG,
}

func condition(insn x86asm.Inst) int { return slices.Index(conditional[:], insn.Op) }

// taken reports whether a condition holds.
func taken(cond int, rflags uint64) bool {
	flag := func(bit int) bool { return rflags>>bit&1 != 0 }
	const cf, pf, zf, sf, of = 0, 2, 6, 7, 11
	var is bool
	switch cond >> 1 {
	case 0:
		is = flag(of)
	case 1:
		is = flag(cf)
	case 2:
		is = flag(zf)
	case 3:
		is = flag(cf) || flag(zf)
	case 4:
		is = flag(sf)
	case 5:
		is = flag(pf)
	case 6:
		is = flag(sf) != flag(of)
	case 7:
		is = flag(zf) || flag(sf) != flag(of)
	}
	return is != (cond&1 != 0)
}

// register returns the value of a 64-bit general-purpose register.
func register(r *xen.Registers, reg x86asm.Reg) uint64 {
	switch reg {
	case x86asm.RAX:
		return r.RAX
	case x86asm.RCX:
		return r.RCX
	case x86asm.RDX:
		return r.RDX
	case x86asm.RBX:
		return r.RBX
	case x86asm.RSP:
		return r.RSP
	case x86asm.RBP:
		return r.RBP
	case x86asm.RSI:
		return r.RSI
	case x86asm.RDI:
		return r.RDI
	case x86asm.R8:
		return r.R8
	case x86asm.R9:
		return r.R9
	case x86asm.R10:
		return r.R10
	case x86asm.R11:
		return r.R11
	case x86asm.R12:
		return r.R12
	case x86asm.R13:
		return r.R13
	case x86asm.R14:
		return r.R14
	case x86asm.R15:
		return r.R15
	}
	return 0
}
