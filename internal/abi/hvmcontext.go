package abi

// Type codes of records (hvm/save.h, arch-x86/hvm/save.h). HVMSaveCPU is an
// HVMHWCPU.
const (
	HVMSaveEnd       = 0
	HVMSaveHeader    = 1
	HVMSaveCPU       = 2
	HVMSaveLAPIC     = 5
	HVMSaveLAPICRegs = 6
	HVMSaveMTRR      = 14
	HVMSaveXSave     = 16
	HVMSaveMSR       = 20
)

// HVMSaveDescriptor is struct hvm_save_descriptor, which precedes each record.
type HVMSaveDescriptor struct {
	TypeCode uint16
	Instance uint16
	Length   uint32 // of what follows
}

// HVMHWCPU is struct hvm_hw_cpu, the same from 4.14 to 4.22.
type HVMHWCPU struct {
	FPURegs [512]byte

	RAX, RBX, RCX, RDX, RBP, RSI, RDI, RSP uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
	CR0, CR2, CR3, CR4                     uint64
	DR0, DR1, DR2, DR3, DR6, DR7           uint64

	CSSel, DSSel, ESSel, FSSel, GSSel, SSSel, TRSel, LDTRSel uint32

	CSLimit, DSLimit, ESLimit, FSLimit, GSLimit, SSLimit uint32
	TRLimit, LDTRLimit, IDTRLimit, GDTRLimit             uint32

	CSBase, DSBase, ESBase, FSBase, GSBase, SSBase uint64
	TRBase, LDTRBase, IDTRBase, GDTRBase           uint64

	CSAR, DSAR, ESAR, FSAR, GSAR, SSAR, TRAR, LDTRAR uint32

	SysenterCS, SysenterESP, SysenterEIP uint64
	ShadowGS                             uint64
	MSRFlags, LSTAR, STAR, CSTAR         uint64
	SyscallMask, EFER, TSCAux, TSC       uint64

	PendingEvent, ErrorCode, Flags, _ uint32
}
