package breakpoint

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// ErrInstruction reports an address whose instruction cannot be stepped over, or
// that is no address of an instruction.
var ErrInstruction = errors.New("instruction cannot be stepped over")

// maxInsn is the longest x86 instruction in bytes.
const maxInsn = 15

const int3 = 0xcc

// instruction is what a breakpoint has to know of the one under it.
type instruction struct {
	length   int  // 0 if it cannot be told, which stepping does not need
	idle     bool // it does nothing
	endbr    bool // it is ENDBR64
	emulates error
	steps    error // why the processor cannot execute it alone
}

// emulated lists the operations that Xen's emulator carries out with no more
// context than registers and memory. Compilers begin functions with these.
var emulated = []x86asm.Op{
	x86asm.ADC, x86asm.ADD, x86asm.AND, x86asm.BT, x86asm.BTC, x86asm.BTR, x86asm.BTS,
	x86asm.CALL, x86asm.CDQ, x86asm.CDQE, x86asm.CMP, x86asm.CQO, x86asm.CWDE, x86asm.DEC,
	x86asm.IMUL, x86asm.INC, x86asm.JMP, x86asm.LEA, x86asm.LEAVE, x86asm.MOV, x86asm.MOVSX,
	x86asm.MOVSXD, x86asm.MOVZX, x86asm.NEG, x86asm.NOP, x86asm.NOT, x86asm.OR, x86asm.POP,
	x86asm.PUSH, x86asm.RET, x86asm.ROL, x86asm.ROR, x86asm.SAR, x86asm.SBB, x86asm.SHL,
	x86asm.SHR, x86asm.SUB, x86asm.TEST, x86asm.XCHG, x86asm.XOR,
	x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JE, x86asm.JG, x86asm.JGE, x86asm.JL,
	x86asm.JLE, x86asm.JNE, x86asm.JNO, x86asm.JNP, x86asm.JNS, x86asm.JO, x86asm.JP, x86asm.JS,
}

// exiting lists the operations that may end up in the hypervisor, which carries
// them out itself: the step then ends behind the next instruction, and would pass
// over the breakpoint that may be there.
var exiting = []x86asm.Op{
	x86asm.CPUID, x86asm.HLT, x86asm.IN, x86asm.INSB, x86asm.INSD, x86asm.INSW, x86asm.OUT,
	x86asm.OUTSB, x86asm.OUTSD, x86asm.OUTSW, x86asm.INVD, x86asm.WBINVD, x86asm.INVLPG,
	x86asm.INVPCID, x86asm.RDMSR, x86asm.WRMSR, x86asm.RDPMC, x86asm.RDTSC, x86asm.RDTSCP,
	x86asm.MONITOR, x86asm.MWAIT, x86asm.XSETBV, x86asm.CLTS, x86asm.LMSW, x86asm.SMSW,
	x86asm.LGDT, x86asm.LIDT, x86asm.LLDT, x86asm.LTR, x86asm.SGDT, x86asm.SIDT, x86asm.SLDT,
	x86asm.STR, x86asm.RSM, x86asm.XSAVES, x86asm.XRSTORS,
}

// trapping lists the operations that do not go on behind themselves, or not at
// once: the handler of the trap would be stepped, or one round of many.
var trapping = []x86asm.Op{x86asm.INT, x86asm.INTO, x86asm.ICEBP, x86asm.UD1, x86asm.UD2}

// repeats are the prefixes that make a string instruction go round.
func repeats(insn *x86asm.Inst) bool {
	switch insn.Op {
	case x86asm.MOVSB, x86asm.MOVSW, x86asm.MOVSD, x86asm.MOVSQ, x86asm.STOSB, x86asm.STOSW, x86asm.STOSD,
		x86asm.STOSQ, x86asm.LODSB, x86asm.LODSW, x86asm.LODSD, x86asm.LODSQ, x86asm.CMPSB, x86asm.CMPSW,
		x86asm.CMPSD, x86asm.CMPSQ, x86asm.SCASB, x86asm.SCASW, x86asm.SCASD, x86asm.SCASQ:
	default:
		return false
	}
	return slices.ContainsFunc(insn.Prefix[:], func(p x86asm.Prefix) bool {
		return p&0xff == 0xf2 || p&0xff == 0xf3
	})
}

// decode tells of the 64-bit instruction at the start of code. The error, which
// wraps [ErrInstruction], says that there is none; what cannot be done with it is
// in the result.
func decode(code []byte) (instruction, error) {
	// The decoder knows ENDBR64 only as a repeat prefix.
	if len(code) >= 4 && code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e && code[3] == 0xfa {
		return instruction{length: 4, idle: true, endbr: true}, nil
	}
	if len(code) > 0 && code[0] == int3 {
		return instruction{}, fmt.Errorf("%w: an int3 is there already, the guest's own or left by a monitor that died", ErrInstruction)
	}
	// Nor does it know what begins with VEX and EVEX, which nothing else does in
	// 64-bit mode and none of which ends up in the hypervisor.
	if len(code) > 4 && (code[0] == 0xc4 || code[0] == 0xc5 || code[0] == 0x62) {
		return instruction{emulates: fmt.Errorf("%w by emulation: % x is a vector instruction", ErrInstruction, code[:4])}, nil
	}
	insn, err := x86asm.Decode(code, 64)
	if err != nil {
		return instruction{}, fmt.Errorf("%w: % x: %w", ErrInstruction, code, err)
	}
	if insn.Op == 0 {
		return instruction{}, fmt.Errorf("%w: % x", ErrInstruction, code)
	}
	in := instruction{length: insn.Len, idle: insn.Op == x86asm.NOP}
	beyond := beyondGeneral(insn)
	if beyond || !slices.Contains(emulated, insn.Op) {
		in.emulates = fmt.Errorf("%w by emulation: % x is %v", ErrInstruction, code[:insn.Len], insn.Op)
	}
	switch {
	case slices.Contains(exiting, insn.Op), beyond && insn.Op == x86asm.MOV && privileged(insn):
		in.steps = fmt.Errorf("%w: the hypervisor may carry out % x, %v, itself", ErrInstruction, code[:insn.Len], insn.Op)
	case slices.Contains(trapping, insn.Op):
		in.steps = fmt.Errorf("%w: % x, %v, traps", ErrInstruction, code[:insn.Len], insn.Op)
	case repeats(&insn):
		in.steps = fmt.Errorf("%w: % x, %v, goes round", ErrInstruction, code[:insn.Len], insn.Op)
	}
	return in, nil
}

// beyondGeneral reports an operand that is no general-purpose register: the
// MOVs to control, debug and segment registers have effects of their own.
func beyondGeneral(insn x86asm.Inst) bool {
	return slices.ContainsFunc(insn.Args[:], func(a x86asm.Arg) bool {
		r, ok := a.(x86asm.Reg)
		return ok && r > x86asm.RIP
	})
}

// privileged reports an operand that is a control, debug or task register.
func privileged(insn x86asm.Inst) bool {
	return slices.ContainsFunc(insn.Args[:], func(a x86asm.Arg) bool {
		r, ok := a.(x86asm.Reg)
		return ok && r >= x86asm.CR0
	})
}
