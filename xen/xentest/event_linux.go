package xentest

import (
	"context"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// Errors of [Domain.Send] and [Domain.Trap]: why the guest's doing made no event.
var (
	ErrNoMonitor = xenfake.ErrNoRing
	ErrRingFull  = xenfake.ErrRingFull
	// ErrDisabled: the monitor has not enabled this kind of event.
	ErrDisabled = xenfake.ErrDisabled
	// ErrFiltered: the filter of CR3 writes drops it.
	ErrFiltered = xenfake.ErrFiltered
)

// Answer is a monitor's answer to an event, as the hypervisor read it.
type Answer struct {
	VCPU xen.VCPU
	// Response is what the monitor's handler returned, as far as it is on the
	// ring: of Regs only those that Xen sets.
	xen.Response
}

// Trap has a vCPU cause an event and waits, as the vCPU does, for the answer.
// The monitor's handler gets r as it is here, with [xen.FlagVCPUPaused] added.
func (d *Domain) Trap(ctx context.Context, r *xen.Request) (*Answer, error) {
	ev := event(r)
	ev.Async = false
	rsp, err := d.fake.Trap(ctx, ev)
	if err != nil {
		return nil, err
	}
	return answer(&rsp), nil
}

// Send puts an event on the ring and does not wait. The vCPU does if r.Flags
// have [xen.FlagVCPUPaused].
func (d *Domain) Send(r *xen.Request) error { return d.fake.Inject(event(r)) }

// Answers returns, and forgets, the answers to what [Domain.Send] sent.
func (d *Domain) Answers() []*Answer {
	var all []*Answer
	for _, rsp := range d.fake.Responses() {
		all = append(all, answer(&rsp))
	}
	return all
}

// event is a request as the fake puts it on the ring.
func event(r *xen.Request) *xenfake.Event {
	ev := &xenfake.Event{
		Reason: uint32(r.Reason),
		VCPU:   uint32(r.VCPU),
		Async:  r.Flags&xen.FlagVCPUPaused == 0,
		Flags:  uint32(r.Flags &^ xen.FlagVCPUPaused),
		View:   uint16(r.View),
		Regs:   eventRegs(&r.Regs),
	}
	switch r.Reason {
	case xen.ReasonWriteCtrlReg:
		ev.CtrlReg = abi.EventCtrlReg{Index: uint32(r.Ctrl.Reg), New: r.Ctrl.New, Old: r.Ctrl.Old}
	case xen.ReasonSoftwareBreakpoint:
		ev.Breakpoint = abi.EventDebug{
			GFN: uint64(r.Breakpoint.GFN), InsnLength: r.Breakpoint.InsnLength, Type: r.Breakpoint.Type,
		}
	case xen.ReasonSingleStep:
		ev.Step = abi.EventSingleStep{GFN: uint64(r.Step.GFN)}
	case xen.ReasonMovToMSR:
		*hcbuf.Overlay[abi.EventMSR](ev.U[:]) = abi.EventMSR{MSR: uint64(r.MSR.Index), New: r.MSR.New, Old: r.MSR.Old}
	case xen.ReasonCPUID:
		*hcbuf.Overlay[abi.EventCPUID](ev.U[:]) = abi.EventCPUID{
			InsnLength: r.CPUID.InsnLength, Leaf: r.CPUID.Leaf, Subleaf: r.CPUID.Subleaf,
		}
	case xen.ReasonDescriptorAccess:
		a := abi.EventDescAccess{
			InstrInfo: r.Descriptor.InsnInfo, ExitQualification: r.Descriptor.Qualification, Descriptor: uint8(r.Descriptor.Table),
		}
		if r.Descriptor.Write {
			a.IsWrite = 1
		}
		*hcbuf.Overlay[abi.EventDescAccess](ev.U[:]) = a
	case xen.ReasonDebugException:
		*hcbuf.Overlay[abi.EventDebug](ev.U[:]) = abi.EventDebug{
			GFN: uint64(r.Debug.GFN), InsnLength: r.Debug.InsnLength, Type: r.Debug.Type,
		}
	case xen.ReasonVMExit:
		*hcbuf.Overlay[abi.EventVMExit](ev.U[:]) = abi.EventVMExit{Reason: r.Exit.Reason, Qualification: r.Exit.Qualification}
	case xen.ReasonMemAccess:
		a := abi.EventMemAccess{GFN: uint64(r.Access.GFN), Offset: r.Access.Offset, GLA: r.Access.Addr}
		for _, f := range []struct {
			on   bool
			flag uint32
		}{
			{r.Access.AddrValid, abi.MemAccessGLAValid}, {r.Access.Read, abi.MemAccessR},
			{r.Access.Write, abi.MemAccessW}, {r.Access.Execute, abi.MemAccessX},
		} {
			if f.on {
				a.Flags |= f.flag
			}
		}
		*hcbuf.Overlay[abi.EventMemAccess](ev.U[:]) = a
	}
	return ev
}

func eventRegs(r *xen.Registers) abi.RegsV7 {
	return abi.RegsV7{
		RegsHead: abi.RegsHead{
			RAX: r.RAX, RCX: r.RCX, RDX: r.RDX, RBX: r.RBX, RSP: r.RSP, RBP: r.RBP, RSI: r.RSI, RDI: r.RDI,
			R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15,
			RFLAGS: r.RFLAGS, DR6: r.DR6, DR7: r.DR7, RIP: r.RIP, CR0: r.CR0, CR2: r.CR2, CR3: r.CR3, CR4: r.CR4,
			SysenterCS: r.SysenterCS, SysenterESP: r.SysenterESP, SysenterEIP: r.SysenterEIP,
			EFER: r.EFER, STAR: r.STAR, LSTAR: r.LSTAR, GDTRBase: r.GDTRBase,
		},
		RegsTail: abi.RegsTail{
			CSBase: uint32(r.CS.Base), SSBase: uint32(r.SS.Base), DSBase: uint32(r.DS.Base), ESBase: uint32(r.ES.Base),
			FSBase: r.FS.Base, GSBase: r.GS.Base,
			CS: packed(r.CS), SS: packed(r.SS), DS: packed(r.DS), ES: packed(r.ES), FS: packed(r.FS), GS: packed(r.GS),
			ShadowGS: r.ShadowGS, GDTRLimit: uint16(r.GDTRLimit),
			CSSel: r.CS.Selector, SSSel: r.SS.Selector, DSSel: r.DS.Selector,
			ESSel: r.ES.Selector, FSSel: r.FS.Selector, GSSel: r.GS.Selector,
		},
	}
}

// packed is a segment's limit, in pages if the granularity bit is set, and
// access rights.
func packed(s xen.Segment) uint32 {
	const granularity = 1 << 11
	limit := s.Limit
	if s.Access&granularity != 0 {
		limit >>= 12
	}
	return limit&0xfffff | uint32(s.Access)<<20
}

func answer(r *xenfake.Response) *Answer {
	a := &Answer{VCPU: xen.VCPU(r.VCPU)}
	switch {
	case r.Flags&abi.FlagSetEmulInsnData != 0:
		a.Action, a.Insn = xen.EmulateInsn, r.Insn
	case r.Flags&abi.FlagEmulate != 0:
		a.Action = xen.Emulate
	case r.Flags&abi.FlagSetRegisters != 0:
		a.Action = xen.SetRegisters
		h := &r.Regs
		a.Regs = &xen.Registers{
			RAX: h.RAX, RCX: h.RCX, RDX: h.RDX, RBX: h.RBX, RSP: h.RSP, RBP: h.RBP, RSI: h.RSI, RDI: h.RDI,
			R8: h.R8, R9: h.R9, R10: h.R10, R11: h.R11, R12: h.R12, R13: h.R13, R14: h.R14, R15: h.R15,
			RIP: h.RIP, RFLAGS: h.RFLAGS,
		}
	}
	if r.Flags&abi.FlagAlternateP2M != 0 {
		a.Switch, a.Response.View = true, xen.View(r.View)
	}
	switch {
	case r.Flags&abi.FlagToggleSingleStep != 0:
		a.Step = xen.ToggleStep
	case r.Flags&abi.FlagFastSingleStep != 0:
		a.Step = xen.FastStep
		a.StepView = xen.View(hcbuf.Overlay[abi.FastSingleStep](r.U[:]).P2MIdx)
	}
	return a
}
