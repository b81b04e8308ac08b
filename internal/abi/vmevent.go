package abi

// VM_EVENT_INTERFACE_VERSION of the releases that this module speaks.
const (
	VMEventV6 = 6 // 4.14
	VMEventV7 = 7 // 4.15 to 4.22
)

// The shared ring page (io/ring.h): four indices, then eight entries.
const (
	RingReqProd  = 0
	RingReqEvent = 4
	RingRspProd  = 8
	RingRspEvent = 12
	RingEntries  = 64
	RingSlots    = 8
)

// VMEventSize returns sizeof(vm_event_request_t), which is also the size of a
// response and the stride of the ring's entries, or 0 if the version is
// unknown.
func VMEventSize(version uint32) int {
	switch version {
	case VMEventV6:
		return 384
	case VMEventV7:
		return 400
	}
	return 0
}

// VMEventHeader is the part of vm_event_st before the data union, the same
// from version 4 to 7.
type VMEventHeader struct {
	Version   uint32
	Flags     uint32
	Reason    uint32
	VCPUID    uint32
	Altp2mIdx uint16
	_         [3]uint16
	U         [32]byte
}

// VMEventData is the offset of the data union: registers or emulation data.
const VMEventData = 56

// Reasons (VM_EVENT_REASON_*).
const (
	ReasonMemAccess          = 1
	ReasonWriteCtrlReg       = 4
	ReasonMovToMSR           = 5
	ReasonSoftwareBreakpoint = 6
	ReasonSingleStep         = 7
	ReasonGuestRequest       = 8
	ReasonDebugException     = 9
	ReasonCPUID              = 10
	ReasonDescriptorAccess   = 13
	ReasonVMExit             = 15 // from 4.17 on
)

// Flags (VM_EVENT_FLAG_*).
const (
	FlagVCPUPaused       = 1 << 0
	FlagForeign          = 1 << 1
	FlagEmulate          = 1 << 2
	FlagToggleSingleStep = 1 << 4
	FlagAlternateP2M     = 1 << 7
	FlagSetRegisters     = 1 << 8
	FlagSetEmulInsnData  = 1 << 9
	FlagFastSingleStep   = 1 << 11 // its view is in U
)

// EventMemAccess is struct vm_event_mem_access.
type EventMemAccess struct {
	GFN    uint64
	Offset uint64
	GLA    uint64
	Flags  uint32
	_      uint32
}

// Flags of EventMemAccess (MEM_ACCESS_*).
const (
	MemAccessR        = 1 << 0
	MemAccessW        = 1 << 1
	MemAccessX        = 1 << 2
	MemAccessGLAValid = 1 << 3
)

// EventCtrlReg is struct vm_event_write_ctrlreg.
type EventCtrlReg struct {
	Index uint32
	_     uint32
	New   uint64
	Old   uint64
}

// EventDebug is struct vm_event_debug of versions 6 and 7.
type EventDebug struct {
	GFN        uint64
	PendingDbg uint64
	InsnLength uint32
	Type       uint8
	_          [3]uint8
}

// EventMSR is struct vm_event_mov_to_msr.
type EventMSR struct {
	MSR uint64
	New uint64
	Old uint64
}

// EventCPUID is struct vm_event_cpuid.
type EventCPUID struct {
	InsnLength uint32
	Leaf       uint32
	Subleaf    uint32
	_          uint32
}

// EventDescAccess is struct vm_event_desc_access.
type EventDescAccess struct {
	InstrInfo         uint32 // of VMX; 0 on SVM
	_                 uint32
	ExitQualification uint64 // of VMX; 0 on SVM
	Descriptor        uint8
	IsWrite           uint8
	_                 [6]uint8
}

// Values of EventDescAccess.Descriptor (VM_EVENT_DESC_*).
const (
	DescIDTR = 1
	DescGDTR = 2
	DescLDTR = 3
	DescTR   = 4
)

// EventVMExit is struct vm_event_vmexit, of which VMX fills both.
type EventVMExit struct {
	Reason        uint64
	Qualification uint64
}

// EventSingleStep is struct vm_event_singlestep.
type EventSingleStep struct {
	GFN uint64
}

// FastSingleStep is struct vm_event_fast_singlestep, which a response has in
// place of what the request had in U.
type FastSingleStep struct {
	P2MIdx uint16
}

// RegsHead is the start of struct vm_event_regs_x86, the same in versions 6
// and 7. RegsTail follows: at once in version 6, after NPTBase and VMTracePos
// in version 7.
type RegsHead struct {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RFLAGS                                 uint64
	DR6, DR7                               uint64
	RIP                                    uint64
	CR0, CR2, CR3, CR4                     uint64
	SysenterCS, SysenterESP, SysenterEIP   uint64
	EFER, STAR, LSTAR                      uint64
	GDTRBase                               uint64
}

// RegsTail is the rest of struct vm_event_regs_x86. A segment register's
// limit (20 bits, in pages if the granularity bit is set) and access rights
// (12 bits) share a uint32.
type RegsTail struct {
	CSBase, SSBase, DSBase, ESBase uint32
	FSBase, GSBase                 uint64
	CS, SS, DS, ES, FS, GS         uint32
	ShadowGS                       uint64
	GDTRLimit                      uint16

	CSSel, SSSel, DSSel, ESSel, FSSel, GSSel uint16

	_ uint16
}

// RegsV6 is struct vm_event_regs_x86 of version 6.
type RegsV6 struct {
	RegsHead
	RegsTail
}

// RegsV7 is struct vm_event_regs_x86 of version 7.
type RegsV7 struct {
	RegsHead
	NPTBase    uint64
	VMTracePos uint64
	RegsTail
}
