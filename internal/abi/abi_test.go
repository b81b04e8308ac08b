package abi

import (
	"testing"
	"unsafe"
)

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"MulticallEntry", unsafe.Sizeof(MulticallEntry{}), 64},
		{"Domctl", unsafe.Sizeof(Domctl{}), 144},
		{"GetDomainInfo", unsafe.Sizeof(GetDomainInfo{}), 96},
		{"HVMContextPartial", unsafe.Sizeof(HVMContextPartial{}), 24},
		{"VMEventOp", unsafe.Sizeof(VMEventOp{}), 12},
		{"MonitorOp", unsafe.Sizeof(MonitorOp{}), 24},
		{"MonitorCtrlReg", unsafe.Sizeof(MonitorCtrlReg{}), 16},
		{"MaxMem", unsafe.Sizeof(MaxMem{}), 8},
		{"DebugOp", unsafe.Sizeof(DebugOp{}), 8},
		{"MonitorCR3Op", unsafe.Sizeof(MonitorCR3Op{}), 64},
		{"CR3Set", unsafe.Sizeof(CR3Set{}), 24},
		{"CR3Entry", unsafe.Sizeof(CR3Entry{}), 8},
		{"CR3List", unsafe.Sizeof(CR3List{}), 16},
		{"CR3Query", unsafe.Sizeof(CR3Query{}), 56},
		{"AltP2MOp", unsafe.Sizeof(AltP2MOp{}), 80},
		{"AltP2MState", unsafe.Sizeof(AltP2MState{}), 1},
		{"AltP2MView", unsafe.Sizeof(AltP2MView{}), 4},
		{"AltP2MAccess", unsafe.Sizeof(AltP2MAccess{}), 16},
		{"AltP2MChange", unsafe.Sizeof(AltP2MChange{}), 24},
		{"Sysctl", unsafe.Sizeof(Sysctl{}), 136},
		{"GetDomainInfoList", unsafe.Sizeof(GetDomainInfoList{}), 24},
		{"MemoryReservation", unsafe.Sizeof(MemoryReservation{}), 32},
		{"HVMParam", unsafe.Sizeof(HVMParam{}), 16},
		{"DMOp", unsafe.Sizeof(DMOp{}), 32},
		{"HVMHWCPU", unsafe.Sizeof(HVMHWCPU{}), 1032},
		{"VMEventHeader", unsafe.Sizeof(VMEventHeader{}), VMEventData},
		{"EventCtrlReg", unsafe.Sizeof(EventCtrlReg{}), 24},
		{"EventDebug", unsafe.Sizeof(EventDebug{}), 24},
		{"EventMemAccess", unsafe.Sizeof(EventMemAccess{}), 32},
		{"mem_access.flags", unsafe.Offsetof(EventMemAccess{}.Flags), 24},
		{"EventSingleStep", unsafe.Sizeof(EventSingleStep{}), 8},
		{"FastSingleStep", unsafe.Sizeof(FastSingleStep{}), 2},
		{"event v6", VMEventData + unsafe.Sizeof(RegsV6{}), uintptr(VMEventSize(6))},
		{"event v7", VMEventData + unsafe.Sizeof(RegsV7{}), uintptr(VMEventSize(7))},
		{"PrivcmdHypercall", unsafe.Sizeof(PrivcmdHypercall{}), 48},
		{"PrivcmdMmapBatchV2", unsafe.Sizeof(PrivcmdMmapBatchV2{}), 32},
		{"PrivcmdDMOp", unsafe.Sizeof(PrivcmdDMOp{}), 16},
		{"PrivcmdDMOpBuf", unsafe.Sizeof(PrivcmdDMOpBuf{}), 16},
	} {
		if tt.got != tt.want {
			t.Errorf("size of %s = %d, want %d", tt.name, tt.got, tt.want)
		}
	}
}

func TestOffsets(t *testing.T) {
	var (
		mc   MulticallEntry
		dc   Domctl
		info GetDomainInfo
		ctx  HVMContextPartial
		mo   MonitorOp
		cr   MonitorCtrlReg
		dbo  DebugOp
		cop  MonitorCR3Op
		set  CR3Set
		lst  CR3List
		qry  CR3Query
		alt  AltP2MOp
		vw   AltP2MView
		acc  AltP2MAccess
		chg  AltP2MChange
		sc   Sysctl
		list GetDomainInfoList
		res  MemoryReservation
		par  HVMParam
		dm   DMOp
		cpu  HVMHWCPU
		hd   VMEventHeader
		ecr  EventCtrlReg
		dbg  EventDebug
		v6   RegsV6
		v7   RegsV7
		hc   PrivcmdHypercall
		mb   PrivcmdMmapBatchV2
		pdm  PrivcmdDMOp
	)
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"multicall.result", unsafe.Offsetof(mc.Result), 8},
		{"multicall.args", unsafe.Offsetof(mc.Args), 16},
		{"domctl.interface_version", unsafe.Offsetof(dc.InterfaceVersion), 4},
		{"domctl.domain", unsafe.Offsetof(dc.Domain), 8},
		{"domctl.u", unsafe.Offsetof(dc.U), 16},
		{"getdomaininfo.flags", unsafe.Offsetof(info.Flags), 4},
		{"getdomaininfo.tot_pages", unsafe.Offsetof(info.TotPages), 8},
		{"getdomaininfo.max_pages", unsafe.Offsetof(info.MaxPages), 16},
		{"getdomaininfo.cpu_time", unsafe.Offsetof(info.CPUTime), 56},
		{"getdomaininfo.nr_online_vcpus", unsafe.Offsetof(info.OnlineVCPUs), 64},
		{"getdomaininfo.max_vcpu_id", unsafe.Offsetof(info.MaxVCPUID), 68},
		{"getdomaininfo.handle", unsafe.Offsetof(info.Handle), 76},
		{"getdomaininfo.cpupool", unsafe.Offsetof(info.CPUPool), 92},
		{"hvmcontext_partial.bufsz", unsafe.Offsetof(ctx.BufSize), 8},
		{"hvmcontext_partial.buffer", unsafe.Offsetof(ctx.Buffer), 16},
		{"monitor_op.u", unsafe.Offsetof(mo.U), 8},
		{"monitor mov_to_cr.sync", unsafe.Offsetof(cr.Sync), 1},
		{"monitor mov_to_cr.onchangeonly", unsafe.Offsetof(cr.OnChangeOnly), 2},
		{"monitor mov_to_cr.bitmask", unsafe.Offsetof(cr.Bitmask), 8},
		{"debug_op.vcpu", unsafe.Offsetof(dbo.VCPU), 4},
		{"monitor_op.u, patched", unsafe.Offsetof(cop.U), 8},
		{"cr3_set.flags", unsafe.Offsetof(set.Flags), 4},
		{"cr3_set.mask", unsafe.Offsetof(set.Mask), 8},
		{"cr3_set.halves", unsafe.Offsetof(set.Halves), 16},
		{"cr3_list.values", unsafe.Offsetof(lst.Values), 8},
		{"cr3_query.max_entries", unsafe.Offsetof(qry.MaxEntries), 4},
		{"cr3_query.nr_entries", unsafe.Offsetof(qry.NrEntries), 8},
		{"cr3_query.supported_flags", unsafe.Offsetof(qry.SupportedFlags), 12},
		{"cr3_query.mode", unsafe.Offsetof(qry.Mode), 16},
		{"cr3_query.flags", unsafe.Offsetof(qry.Flags), 20},
		{"cr3_query.mask", unsafe.Offsetof(qry.Mask), 24},
		{"cr3_query.halves", unsafe.Offsetof(qry.Halves), 32},
		{"cr3_query.forwarded", unsafe.Offsetof(qry.Forwarded), 40},
		{"cr3_query.dropped", unsafe.Offsetof(qry.Dropped), 48},
		{"altp2m_op.cmd", unsafe.Offsetof(alt.Cmd), 4},
		{"altp2m_op.domain", unsafe.Offsetof(alt.Domain), 8},
		{"altp2m_op.u", unsafe.Offsetof(alt.U), 16},
		{"altp2m_view.default_access", unsafe.Offsetof(vw.DefaultAccess), 2},
		{"altp2m_mem_access.access", unsafe.Offsetof(acc.Access), 2},
		{"altp2m_mem_access.gfn", unsafe.Offsetof(acc.GFN), 8},
		{"altp2m_change_gfn.old_gfn", unsafe.Offsetof(chg.OldGFN), 8},
		{"altp2m_change_gfn.new_gfn", unsafe.Offsetof(chg.NewGFN), 16},
		{"sysctl.u", unsafe.Offsetof(sc.U), 8},
		{"getdomaininfolist.max_domains", unsafe.Offsetof(list.MaxDomains), 4},
		{"getdomaininfolist.buffer", unsafe.Offsetof(list.Buffer), 8},
		{"getdomaininfolist.num_domains", unsafe.Offsetof(list.NumDomains), 16},
		{"memory_reservation.nr_extents", unsafe.Offsetof(res.NrExtents), 8},
		{"memory_reservation.extent_order", unsafe.Offsetof(res.ExtentOrder), 16},
		{"memory_reservation.domid", unsafe.Offsetof(res.DomID), 24},
		{"hvm_param.index", unsafe.Offsetof(par.Index), 4},
		{"hvm_param.value", unsafe.Offsetof(par.Value), 8},
		{"dm_op.inject.vcpu", unsafe.Offsetof(dm.Inj) + unsafe.Offsetof(dm.Inj.VCPU), 8},
		{"dm_op.inject.vector", unsafe.Offsetof(dm.Inj) + unsafe.Offsetof(dm.Inj.Vector), 12},
		{"dm_op.inject.type", unsafe.Offsetof(dm.Inj) + unsafe.Offsetof(dm.Inj.Type), 13},
		{"dm_op.inject.insn_len", unsafe.Offsetof(dm.Inj) + unsafe.Offsetof(dm.Inj.InsnLen), 14},
		{"dm_op.inject.error_code", unsafe.Offsetof(dm.Inj) + unsafe.Offsetof(dm.Inj.ErrorCode), 16},
		{"dm_op.inject.cr2", unsafe.Offsetof(dm.Inj) + unsafe.Offsetof(dm.Inj.CR2), 24},
		{"hvm_hw_cpu.rax", unsafe.Offsetof(cpu.RAX), 512},
		{"hvm_hw_cpu.rbx", unsafe.Offsetof(cpu.RBX), 520},
		{"hvm_hw_cpu.rsp", unsafe.Offsetof(cpu.RSP), 568},
		{"hvm_hw_cpu.rip", unsafe.Offsetof(cpu.RIP), 640},
		{"hvm_hw_cpu.cr0", unsafe.Offsetof(cpu.CR0), 656},
		{"hvm_hw_cpu.cr3", unsafe.Offsetof(cpu.CR3), 672},
		{"hvm_hw_cpu.dr6", unsafe.Offsetof(cpu.DR6), 720},
		{"hvm_hw_cpu.cs_sel", unsafe.Offsetof(cpu.CSSel), 736},
		{"hvm_hw_cpu.ss_sel", unsafe.Offsetof(cpu.SSSel), 756},
		{"hvm_hw_cpu.cs_limit", unsafe.Offsetof(cpu.CSLimit), 768},
		{"hvm_hw_cpu.gdtr_limit", unsafe.Offsetof(cpu.GDTRLimit), 804},
		{"hvm_hw_cpu.cs_base", unsafe.Offsetof(cpu.CSBase), 808},
		{"hvm_hw_cpu.gs_base", unsafe.Offsetof(cpu.GSBase), 840},
		{"hvm_hw_cpu.gdtr_base", unsafe.Offsetof(cpu.GDTRBase), 880},
		{"hvm_hw_cpu.cs_arbytes", unsafe.Offsetof(cpu.CSAR), 888},
		{"hvm_hw_cpu.ss_arbytes", unsafe.Offsetof(cpu.SSAR), 908},
		{"hvm_hw_cpu.sysenter_cs", unsafe.Offsetof(cpu.SysenterCS), 920},
		{"hvm_hw_cpu.shadow_gs", unsafe.Offsetof(cpu.ShadowGS), 944},
		{"hvm_hw_cpu.msr_lstar", unsafe.Offsetof(cpu.LSTAR), 960},
		{"hvm_hw_cpu.msr_star", unsafe.Offsetof(cpu.STAR), 968},
		{"hvm_hw_cpu.msr_efer", unsafe.Offsetof(cpu.EFER), 992},
		{"hvm_hw_cpu.tsc", unsafe.Offsetof(cpu.TSC), 1008},
		{"hvm_hw_cpu.flags", unsafe.Offsetof(cpu.Flags), 1024},
		{"vm_event.flags", unsafe.Offsetof(hd.Flags), 4},
		{"vm_event.reason", unsafe.Offsetof(hd.Reason), 8},
		{"vm_event.vcpu_id", unsafe.Offsetof(hd.VCPUID), 12},
		{"vm_event.altp2m_idx", unsafe.Offsetof(hd.Altp2mIdx), 16},
		{"vm_event.u", unsafe.Offsetof(hd.U), 24},
		{"write_ctrlreg.new_value", unsafe.Offsetof(ecr.New), 8},
		{"write_ctrlreg.old_value", unsafe.Offsetof(ecr.Old), 16},
		{"debug.insn_length", unsafe.Offsetof(dbg.InsnLength), 16},
		{"debug.type", unsafe.Offsetof(dbg.Type), 20},
		{"privcmd_hypercall.arg", unsafe.Offsetof(hc.Arg), 8},
		{"mmapbatch_v2.dom", unsafe.Offsetof(mb.Dom), 4},
		{"mmapbatch_v2.addr", unsafe.Offsetof(mb.Addr), 8},
		{"mmapbatch_v2.arr", unsafe.Offsetof(mb.Arr), 16},
		{"mmapbatch_v2.err", unsafe.Offsetof(mb.Err), 24},
		{"privcmd_dm_op.num", unsafe.Offsetof(pdm.Num), 2},
		{"privcmd_dm_op.ubufs", unsafe.Offsetof(pdm.UBufs), 8},

		// Offsets within the whole event.
		{"v7 rbx", VMEventData + unsafe.Offsetof(v7.RBX), 80},
		{"v7 rsi", VMEventData + unsafe.Offsetof(v7.RSI), 104},
		{"v7 r15", VMEventData + unsafe.Offsetof(v7.R15), 176},
		{"v7 rflags", VMEventData + unsafe.Offsetof(v7.RFLAGS), 184},
		{"v7 rip", VMEventData + unsafe.Offsetof(v7.RIP), 208},
		{"v7 cr3", VMEventData + unsafe.Offsetof(v7.CR3), 232},
		{"v7 efer", VMEventData + unsafe.Offsetof(v7.EFER), 272},
		{"v7 lstar", VMEventData + unsafe.Offsetof(v7.LSTAR), 288},
		{"v7 gdtr_base", VMEventData + unsafe.Offsetof(v7.GDTRBase), 296},
		{"v7 npt_base", VMEventData + unsafe.Offsetof(v7.NPTBase), 304},
		{"v7 cs_base", VMEventData + unsafe.Offsetof(v7.CSBase), 320},
		{"v7 fs_base", VMEventData + unsafe.Offsetof(v7.FSBase), 336},
		{"v7 cs", VMEventData + unsafe.Offsetof(v7.CS), 352},
		{"v7 gs", VMEventData + unsafe.Offsetof(v7.GS), 372},
		{"v7 shadow_gs", VMEventData + unsafe.Offsetof(v7.ShadowGS), 376},
		{"v7 gdtr_limit", VMEventData + unsafe.Offsetof(v7.GDTRLimit), 384},
		{"v7 cs_sel", VMEventData + unsafe.Offsetof(v7.CSSel), 386},
		{"v7 gs_sel", VMEventData + unsafe.Offsetof(v7.GSSel), 396},
		{"v6 cs_base", VMEventData + unsafe.Offsetof(v6.CSBase), 304},
		{"v6 fs_base", VMEventData + unsafe.Offsetof(v6.FSBase), 320},
		{"v6 cs", VMEventData + unsafe.Offsetof(v6.CS), 336},
		{"v6 shadow_gs", VMEventData + unsafe.Offsetof(v6.ShadowGS), 360},
		{"v6 gdtr_limit", VMEventData + unsafe.Offsetof(v6.GDTRLimit), 368},
		{"v6 cs_sel", VMEventData + unsafe.Offsetof(v6.CSSel), 370},
	} {
		if tt.got != tt.want {
			t.Errorf("offset of %s = %d, want %d", tt.name, tt.got, tt.want)
		}
	}
}

// The numbers as the kernel's headers give them.
func TestIoctlNumbers(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want uint32
	}{
		{"privcmd hypercall", IoctlPrivcmdHypercall, 0x00305000},
		{"privcmd mmapbatch v2", IoctlPrivcmdMmapBatchV2, 0x00205004},
		{"privcmd dm_op", IoctlPrivcmdDMOp, 0x00105005},
		{"evtchn bind interdomain", IoctlEvtchnBindInterdomain, 0x00084501},
		{"evtchn unbind", IoctlEvtchnUnbind, 0x00044503},
		{"evtchn notify", IoctlEvtchnNotify, 0x00044504},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %#x, want %#x", tt.name, tt.got, tt.want)
		}
	}
}

func TestDomctlVersion(t *testing.T) {
	want := map[int]uint32{13: 0, 14: 0x12, 15: 0x13, 16: 0x14, 17: 0x15, 18: 0x16, 19: 0x17, 20: 0x17, 21: 0x17, 22: 0x18}
	for minor, v := range want {
		if got := DomctlVersion(4, minor); got != v {
			t.Errorf("DomctlVersion(4, %d) = %#x, want %#x", minor, got, v)
		}
	}
}

func TestAccessDefault(t *testing.T) {
	for minor, want := range map[int]uint16{14: 10, 17: 10, 19: 10, 20: 11, 22: 11} {
		if got := AccessDefault(4, minor); got != want {
			t.Errorf("AccessDefault(4, %d) = %d, want %d", minor, got, want)
		}
	}
}
