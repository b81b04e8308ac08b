#include "textflag.h"

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// func sidt(to *byte)
TEXT ·sidt(SB), NOSPLIT, $0-8
	MOVQ to+0(FP), AX
	BYTE $0x0f; BYTE $0x01; BYTE $0x08
	RET

// func store(to *byte, v uint64)
TEXT ·store(SB), NOSPLIT, $0-16
	MOVQ to+0(FP), AX
	MOVQ v+8(FP), CX
	MOVQ CX, (AX)
	RET

// func load(from *byte) uint64
TEXT ·load(SB), NOSPLIT, $0-16
	MOVQ from+0(FP), AX
	MOVQ (AX), AX
	MOVQ AX, ret+8(FP)
	RET

// func vmcall(op, arg uint64) int64
TEXT ·vmcall(SB), NOSPLIT, $0-24
	MOVQ op+0(FP), AX
	MOVQ arg+8(FP), DI
	XORL SI, SI
	BYTE $0x0f; BYTE $0x01; BYTE $0xc1
	MOVQ AX, ret+16(FP)
	RET

// func vmmcall(op, arg uint64) int64
TEXT ·vmmcall(SB), NOSPLIT, $0-24
	MOVQ op+0(FP), AX
	MOVQ arg+8(FP), DI
	XORL SI, SI
	BYTE $0x0f; BYTE $0x01; BYTE $0xd9
	MOVQ AX, ret+16(FP)
	RET
