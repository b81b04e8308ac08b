package breakpoint

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// ErrInstruction reports an address whose instruction cannot be emulated in
// the guest's place.
var ErrInstruction = errors.New("instruction cannot be stepped over by emulation")

// maxInsn is the longest x86 instruction in bytes.
const maxInsn = 15

const int3 = 0xcc

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

// instruction returns the length of the 64-bit instruction at the start of
// code and whether it does nothing, or an error wrapping [ErrInstruction] if it
// is not one that can be emulated.
func instruction(code []byte) (length int, idle bool, err error) {
	// The decoder knows ENDBR64 only as a repeat prefix.
	if len(code) >= 4 && code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e && code[3] == 0xfa {
		return 4, true, nil
	}
	if len(code) > 0 && code[0] == int3 {
		return 0, false, fmt.Errorf("%w: an int3 is there already, the guest's own or left by a monitor that died", ErrInstruction)
	}
	insn, err := x86asm.Decode(code, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%w: % x: %w", ErrInstruction, code, err)
	}
	if insn.Op == 0 || !slices.Contains(emulated, insn.Op) || beyondGeneral(insn) {
		return 0, false, fmt.Errorf("%w: % x is %v", ErrInstruction, code[:insn.Len], insn.Op)
	}
	return insn.Len, insn.Op == x86asm.NOP, nil
}

// beyondGeneral reports an operand that is no general-purpose register: the
// MOVs to control, debug and segment registers have effects of their own.
func beyondGeneral(insn x86asm.Inst) bool {
	return slices.ContainsFunc(insn.Args[:], func(a x86asm.Arg) bool {
		r, ok := a.(x86asm.Reg)
		return ok && r > x86asm.RIP
	})
}
