package xen

import "fmt"

// Reason says why Xen sent a request (VM_EVENT_REASON_*).
type Reason uint32

// The reasons that this package decodes. Values are those of
// xen/include/public/vm_event.h, unchanged from 4.14 on.
const (
	ReasonUnknown            Reason = 0
	ReasonMemAccess          Reason = 1
	ReasonWriteCtrlReg       Reason = 4
	ReasonMovToMSR           Reason = 5
	ReasonSoftwareBreakpoint Reason = 6
	ReasonSingleStep         Reason = 7
	ReasonGuestRequest       Reason = 8
	ReasonDebugException     Reason = 9
	ReasonCPUID              Reason = 10
	ReasonDescriptorAccess   Reason = 13
	ReasonVMExit             Reason = 15
)

// CtrlReg names a control register in monitor operations and events
// (VM_EVENT_X86_*).
type CtrlReg uint32

// The control registers whose writes can be monitored.
const (
	CR0  CtrlReg = 0
	CR3  CtrlReg = 1
	CR4  CtrlReg = 2
	XCR0 CtrlReg = 3
)

// RequestFlags are the flags of a request (VM_EVENT_FLAG_*).
type RequestFlags uint32

// Flags that requests carry.
const (
	// FlagVCPUPaused: the event is synchronous, the vCPU waits for the answer.
	FlagVCPUPaused RequestFlags = 1 << 0
	// FlagForeign: the vCPU belongs to another domain than the event.
	FlagForeign RequestFlags = 1 << 1
	// FlagAlternateP2M: altp2m is active and Request.View is the vCPU's view.
	FlagAlternateP2M RequestFlags = 1 << 7
)

// Request is one vm_event request, decoded once from the ring. The pointer
// that a [Handler] gets is valid until the handler returns.
type Request struct {
	Reason Reason
	VCPU   VCPU
	Flags  RequestFlags
	View   View // meaningful if altp2m is active

	Regs Registers

	// Ctrl is set for ReasonWriteCtrlReg. For CR3, New carries the PCID but
	// never the no-flush bit 63, and Regs.CR3 is still the old value.
	Ctrl CtrlRegWrite
	// Breakpoint is set for ReasonSoftwareBreakpoint.
	Breakpoint SoftwareBreakpoint
	// Step is set for ReasonSingleStep.
	Step SingleStep
	// Access is set for ReasonMemAccess.
	Access MemAccess
	// MSR is set for ReasonMovToMSR.
	MSR MSRWrite
	// CPUID is set for ReasonCPUID.
	CPUID CPUID
	// Descriptor is set for ReasonDescriptorAccess.
	Descriptor DescriptorAccess
	// Debug is set for ReasonDebugException.
	Debug DebugException
	// Exit is set for ReasonVMExit.
	Exit VMExit
}

// MSRWrite is a write to a model-specific register. RIP is at the instruction
// and goes behind it when the vCPU goes on: a handler must not set it.
type MSRWrite struct {
	Index    uint32
	New, Old uint64
}

// CPUID is a CPUID instruction, see [Monitor.EnableCPUID].
type CPUID struct {
	Leaf, Subleaf uint32
	InsnLength    uint32
}

// DescriptorTable is a register that points to a descriptor table
// (VM_EVENT_DESC_*).
type DescriptorTable uint8

// The registers.
const (
	IDTR DescriptorTable = 1
	GDTR DescriptorTable = 2
	LDTR DescriptorTable = 3
	TR   DescriptorTable = 4
)

// DescriptorAccess is an access to the register of a descriptor table, see
// [Monitor.EnableDescriptorAccess].
type DescriptorAccess struct {
	Table DescriptorTable
	Write bool // otherwise a read
	// InsnInfo and Qualification are VMX's words for the instruction; 0 on AMD.
	InsnInfo      uint32
	Qualification uint64
}

// DebugException is a debug exception (#DB) of the guest.
type DebugException struct {
	GFN        GFN // frame of the instruction; ^0 if unmapped
	InsnLength uint32
	Type       uint8 // x86 event type: 3 hardware exception, 5 INT1
}

// VMExit is an exit to the hypervisor, in VMX's words.
type VMExit struct{ Reason, Qualification uint64 }

// CtrlRegWrite is a write to a control register.
type CtrlRegWrite struct {
	Reg      CtrlReg
	New, Old uint64
}

// SoftwareBreakpoint is an executed int3. RIP still points at it.
type SoftwareBreakpoint struct {
	GFN        GFN // frame of the instruction; ^0 if unmapped
	InsnLength uint32
	Type       uint8 // x86 event type: 6 software exception (0xcc), 4 software interrupt (0xcd 0x03), 5 0xf1
}

// SingleStep is an instruction that was executed: RIP is at the next one.
type SingleStep struct {
	GFN GFN // frame of the next instruction; ^0 if unmapped
}

// MemAccess is an access to memory that the vCPU's view forbids, see
// [Domain.SetViewAccess]. It has not taken place; a plain Continue tries it
// again.
type MemAccess struct {
	GFN    GFN
	Offset uint64 // within the frame
	// Addr is the virtual address, if AddrValid.
	Addr      uint64
	AddrValid bool
	// Xen reports every write as a read as well.
	Read, Write, Execute bool
}

// Action selects what Xen does with the vCPU when its request is answered.
type Action uint8

// The actions.
const (
	// Continue resumes the vCPU where it is. After a software breakpoint that
	// executes the instruction at RIP again, as it does after an access that a
	// view forbids; CPUID and accesses to descriptor tables are done with.
	Continue Action = iota
	// EmulateInsn lets Xen emulate the instruction whose bytes are in
	// Response.Insn in place of the one at RIP. Only for software breakpoints.
	EmulateInsn
	// SetRegisters loads the general-purpose registers, RIP and RFLAGS from
	// Response.Regs. Reserved bits of RFLAGS are mended; a RIP that no processor
	// takes is refused, and so is that of the request where Xen goes on behind
	// the instruction itself: at writes of control registers and MSRs and at
	// requests of the guest's own, it would be executed for ever.
	SetRegisters
	// Emulate lets Xen emulate the instruction at RIP, past what the view
	// forbids. Only for accesses to memory and to descriptor tables. If Xen
	// cannot, the guest gets an invalid-opcode exception.
	Emulate
)

// Step selects how a vCPU single-steps from the answer on. Both kinds need
// VMX and [Monitor.EnableSingleStep]; a response that has one without the
// latter is refused, because some releases let the vCPU step for ever. While a
// vCPU steps it takes no interrupt.
type Step uint8

// The kinds of single-stepping.
const (
	// NoStep leaves single-stepping as it is, on or off.
	NoStep Step = iota
	// ToggleStep turns it on if it is off, and off if it is on. While it is on
	// every instruction ends in a request with ReasonSingleStep. One
	// instruction thus takes two requests; the answer to the second toggles
	// again.
	ToggleStep
	// FastStep executes one instruction, in the altp2m view that the vCPU is in
	// after the answer; then Xen itself switches to Response.StepView and the
	// vCPU runs on, without another request. It does not go with emulation. A
	// vCPU that steps already does so no more.
	FastStep
)

// Response is a handler's answer to a request; its zero value resumes the
// vCPU unchanged.
type Response struct {
	Action Action
	// Step lets the vCPU single-step.
	Step Step
	// Switch has the vCPU continue in the altp2m view View. Xen ignores a view
	// that does not exist, and all of this while altp2m is off.
	Switch bool
	View   View
	// StepView is the view after a FastStep. It has to exist.
	StepView View
	// Insn holds the bytes for EmulateInsn; all 16 are handed to Xen.
	Insn [16]byte
	// Regs is read for SetRegisters only.
	Regs *Registers
}

// Handler answers one request. It runs on the goroutine that serves the ring,
// while the vCPU that caused the request waits (a synchronous event) or runs
// on. It must not retain the request, nor change its Reason.
type Handler func(*Request) Response

func (r CtrlReg) String() string {
	switch r {
	case CR0:
		return "CR0"
	case CR3:
		return "CR3"
	case CR4:
		return "CR4"
	case XCR0:
		return "XCR0"
	}
	return fmt.Sprintf("control register %d", uint32(r))
}
