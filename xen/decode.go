package xen

import (
	"fmt"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// decodeRequest fills req, all of it, from a request of the given version.
// slot has at least the version's size and is 8-aligned.
func decodeRequest(slot []byte, version uint32, req *Request) error {
	h := hcbuf.Overlay[abi.VMEventHeader](slot)
	if h.Version != version {
		*req = Request{}
		return fmt.Errorf("request of vm_event version %d on a ring of version %d", h.Version, version)
	}
	req.forget()
	req.Reason = Reason(h.Reason)
	req.VCPU = VCPU(h.VCPUID)
	req.Flags = RequestFlags(h.Flags)
	req.View = View(h.Altp2mIdx)
	switch req.Reason {
	case ReasonMemAccess:
		u := hcbuf.Overlay[abi.EventMemAccess](h.U[:])
		req.Access = MemAccess{
			GFN: GFN(u.GFN), Offset: u.Offset, Addr: u.GLA, AddrValid: u.Flags&abi.MemAccessGLAValid != 0,
			Read: u.Flags&abi.MemAccessR != 0, Write: u.Flags&abi.MemAccessW != 0, Execute: u.Flags&abi.MemAccessX != 0,
		}
	case ReasonWriteCtrlReg:
		u := hcbuf.Overlay[abi.EventCtrlReg](h.U[:])
		req.Ctrl = CtrlRegWrite{Reg: CtrlReg(u.Index), New: u.New, Old: u.Old}
	case ReasonMovToMSR:
		u := hcbuf.Overlay[abi.EventMSR](h.U[:])
		req.MSR = MSRWrite{Index: uint32(u.MSR), New: u.New, Old: u.Old}
	case ReasonCPUID:
		u := hcbuf.Overlay[abi.EventCPUID](h.U[:])
		req.CPUID = CPUID{Leaf: u.Leaf, Subleaf: u.Subleaf, InsnLength: u.InsnLength}
	case ReasonDescriptorAccess:
		u := hcbuf.Overlay[abi.EventDescAccess](h.U[:])
		req.Descriptor = DescriptorAccess{
			Table: DescriptorTable(u.Descriptor), Write: u.IsWrite != 0, InsnInfo: u.InstrInfo, Qualification: u.ExitQualification,
		}
	case ReasonDebugException:
		u := hcbuf.Overlay[abi.EventDebug](h.U[:])
		req.Debug = DebugException{GFN: GFN(u.GFN), InsnLength: u.InsnLength, Type: u.Type}
	case ReasonVMExit:
		u := hcbuf.Overlay[abi.EventVMExit](h.U[:])
		req.Exit = VMExit{Reason: u.Reason, Qualification: u.Qualification}
	case ReasonSoftwareBreakpoint:
		u := hcbuf.Overlay[abi.EventDebug](h.U[:])
		req.Breakpoint = SoftwareBreakpoint{GFN: GFN(u.GFN), InsnLength: u.InsnLength, Type: u.Type}
	case ReasonSingleStep:
		u := hcbuf.Overlay[abi.EventSingleStep](h.U[:])
		req.Step = SingleStep{GFN: GFN(u.GFN)}
	}
	data := slot[abi.VMEventData:]
	if version == abi.VMEventV6 {
		regs := hcbuf.Overlay[abi.RegsV6](data)
		req.Regs.fromEvent(&regs.RegsHead, &regs.RegsTail)
	} else {
		regs := hcbuf.Overlay[abi.RegsV7](data)
		req.Regs.fromEvent(&regs.RegsHead, &regs.RegsTail)
	}
	return nil
}

// forget clears what the last request of its reason has filled.
func (req *Request) forget() {
	switch req.Reason {
	case ReasonWriteCtrlReg:
		req.Ctrl = CtrlRegWrite{}
	case ReasonSoftwareBreakpoint:
		req.Breakpoint = SoftwareBreakpoint{}
	case ReasonSingleStep:
		req.Step = SingleStep{}
	case ReasonMemAccess:
		req.Access = MemAccess{}
	case ReasonGuestRequest:
	default:
		*req = Request{}
	}
}

// fromEvent fills r from the registers of a request.
func (r *Registers) fromEvent(h *abi.RegsHead, t *abi.RegsTail) {
	r.RAX, r.RCX, r.RDX, r.RBX = h.RAX, h.RCX, h.RDX, h.RBX
	r.RSP, r.RBP, r.RSI, r.RDI = h.RSP, h.RBP, h.RSI, h.RDI
	r.R8, r.R9, r.R10, r.R11 = h.R8, h.R9, h.R10, h.R11
	r.R12, r.R13, r.R14, r.R15 = h.R12, h.R13, h.R14, h.R15
	r.RIP, r.RFLAGS = h.RIP, h.RFLAGS
	r.CR0, r.CR2, r.CR3, r.CR4 = h.CR0, h.CR2, h.CR3, h.CR4
	r.DR6, r.DR7 = h.DR6, h.DR7
	r.CS = eventSegment(t.CSSel, t.CS, uint64(t.CSBase))
	r.SS = eventSegment(t.SSSel, t.SS, uint64(t.SSBase))
	r.DS = eventSegment(t.DSSel, t.DS, uint64(t.DSBase))
	r.ES = eventSegment(t.ESSel, t.ES, uint64(t.ESBase))
	r.FS = eventSegment(t.FSSel, t.FS, t.FSBase)
	r.GS = eventSegment(t.GSSel, t.GS, t.GSBase)
	r.ShadowGS = t.ShadowGS
	r.EFER, r.STAR, r.LSTAR = h.EFER, h.STAR, h.LSTAR
	r.SysenterCS, r.SysenterESP, r.SysenterEIP = h.SysenterCS, h.SysenterESP, h.SysenterEIP
	r.GDTRBase, r.GDTRLimit = h.GDTRBase, uint32(t.GDTRLimit)
}

// eventSegment unpacks a segment register: 20 bits of limit, in pages if the
// granularity bit is set, and 12 bits of access rights.
func eventSegment(sel uint16, packed uint32, base uint64) Segment {
	const granularity = 1 << 11
	s := Segment{Selector: sel, Access: uint16(packed >> 20), Limit: packed & 0xfffff, Base: base}
	if s.Access&granularity != 0 {
		s.Limit = s.Limit<<12 | 0xfff
	}
	return s
}

// Bits of RFLAGS that a processor takes in 64-bit mode, and the one that is set:
// it does not enter a guest with others.
const (
	rflagsMask = 0x3d7fd5 // all but the reserved ones and VM
	rflagsVM   = 1 << 17
	rflagsOne  = 1 << 1
)

// setGeneral stores what Xen takes from a SET_REGISTERS response. A vCPU is and
// stays in virtual-8086 mode, or not, as it was.
func setGeneral(h, was *abi.RegsHead, r *Registers) {
	h.RAX, h.RCX, h.RDX, h.RBX = r.RAX, r.RCX, r.RDX, r.RBX
	h.RSP, h.RBP, h.RSI, h.RDI = r.RSP, r.RBP, r.RSI, r.RDI
	h.R8, h.R9, h.R10, h.R11 = r.R8, r.R9, r.R10, r.R11
	h.R12, h.R13, h.R14, h.R15 = r.R12, r.R13, r.R14, r.R15
	h.RIP, h.RFLAGS = r.RIP, r.RFLAGS&rflagsMask|was.RFLAGS&rflagsVM|rflagsOne
}
