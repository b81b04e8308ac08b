/*
 * Prints, as JSON, sizes, offsets and numbers of Xen's public interface and of
 * Linux's Xen devices under the names that they have in the Go package
 * internal/abi, whose test compares them. See `make abi`.
 *
 * XEN_MINOR is the release's minor number; PATCHED says that the headers are
 * those with the patches of patches/xen.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#include <xen/domctl.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>
#include <xen/io/ring.h>
#include <xen/memory.h>
#include <xen/sysctl.h>
#include <xen/version.h>
#include <xen/vm_event.h>
#include <xen/xsm/flask_op.h>

#include <linux/ioctl.h>
#include <xen/evtchn.h>
#include <xen/privcmd.h>

static const char *sep;

static void item(const char *name)
{
    printf("%s\t\t\"%s\": ", sep, name);
    sep = ",\n";
}

static void section(const char *name)
{
    printf(",\n\t\"%s\": {\n", name);
    sep = "";
}

static void end_section(void)
{
    printf("\n\t}");
}

static void begin(const char *name, const char *type, size_t size)
{
    item(name);
    printf("{\"c\": \"%s\", \"size\": %zu, \"fields\": {\n", type, size);
    sep = "";
}

static void field(const char *name, const char *member, size_t offset, size_t size)
{
    printf("%s\t\t\t\"%s\": {\"c\": \"%s\", \"offset\": %zu, \"size\": %zu}", sep, name, member, offset, size);
    sep = ",\n";
}

static void end(void)
{
    printf("\n\t\t}}");
    sep = ",\n";
}

/* Within F, T is the structure at hand. */
#define F(name, member) field(#name, #member, offsetof(T, member), sizeof(((T *)0)->member));
#define STRUCT(name, type, fields) do { \
    typedef type T; \
    begin(#name, #type, sizeof(T)); \
    fields \
    end(); \
} while (0)
/* A structure of which Go has the part before what follows member last. */
#define HEAD(name, type, last, fields) do { \
    typedef type T; \
    begin(#name, #type, offsetof(T, last) + sizeof(((T *)0)->last)); \
    fields \
    end(); \
} while (0)
/* The anonymous structure that a member is. */
#define MEMBER(name, type, member, fields) do { \
    typedef __typeof__(((type *)0)->member) T; \
    begin(#name, #type "." #member, sizeof(T)); \
    fields \
    end(); \
} while (0)

#define N(name, value) do { item(#name); printf("%llu", (unsigned long long)(value)); } while (0)

static void domctl(void)
{
    STRUCT(Domctl, struct xen_domctl,
        F(Cmd, cmd) F(InterfaceVersion, interface_version) F(Domain, domain) F(U, u));
    HEAD(GetDomainInfo, struct xen_domctl_getdomaininfo, cpupool,
        F(Domain, domain) F(Flags, flags) F(TotPages, tot_pages) F(MaxPages, max_pages)
        F(OutstandingPages, outstanding_pages) F(SharedPages, shr_pages) F(PagedPages, paged_pages)
        F(SharedInfoFrame, shared_info_frame) F(CPUTime, cpu_time) F(OnlineVCPUs, nr_online_vcpus)
        F(MaxVCPUID, max_vcpu_id) F(SSIDRef, ssidref) F(Handle, handle) F(CPUPool, cpupool));
    STRUCT(HVMContextPartial, struct xen_domctl_hvmcontext_partial,
        F(Type, type) F(Instance, instance) F(BufSize, bufsz) F(Buffer, buffer));
    STRUCT(HVMContext, struct xen_domctl_hvmcontext, F(Size, size) F(Buffer, buffer));
    STRUCT(MaxMem, struct xen_domctl_max_mem, F(MaxMemKB, max_memkb));
    STRUCT(DebugOp, struct xen_domctl_debug_op, F(Op, op) F(VCPU, vcpu));
    STRUCT(VMEventOp, struct xen_domctl_vm_event_op, F(Op, op) F(Mode, mode) F(Out, u));
#ifndef PATCHED
    STRUCT(MonitorOp, struct xen_domctl_monitor_op, F(Op, op) F(Event, event) F(U, u));
#endif
    MEMBER(MonitorCtrlReg, struct xen_domctl_monitor_op, u.mov_to_cr,
        F(Index, index) F(Sync, sync) F(OnChangeOnly, onchangeonly) F(Bitmask, bitmask));
    MEMBER(MonitorMSR, struct xen_domctl_monitor_op, u.mov_to_msr, F(MSR, msr) F(OnChangeOnly, onchangeonly));
    MEMBER(MonitorRequest, struct xen_domctl_monitor_op, u.guest_request,
        F(Sync, sync) F(AllowUserspace, allow_userspace));
    MEMBER(MonitorSync, struct xen_domctl_monitor_op, u.debug_exception, F(Sync, sync));
#ifdef PATCHED
    STRUCT(MonitorCR3Op, struct xen_domctl_monitor_op, F(Op, op) F(Event, event) F(U, u));
    STRUCT(CR3Set, struct xen_domctl_monitor_cr3_set,
        F(Mode, mode) F(Flags, flags) F(Mask, mask) F(Halves, halves));
    STRUCT(CR3Entry, struct xen_domctl_monitor_cr3_entry, F(Value, value));
    STRUCT(CR3List, struct xen_domctl_monitor_cr3_list, F(Nr, nr) F(Values, values));
    STRUCT(CR3Query, struct xen_domctl_monitor_cr3_query,
        F(Version, version) F(MaxEntries, max_entries) F(NrEntries, nr_entries)
        F(SupportedFlags, supported_flags) F(Mode, mode) F(Flags, flags) F(Mask, mask) F(Halves, halves)
        F(Forwarded, forwarded) F(Dropped, dropped));
#endif
}

static void hypercalls(void)
{
    STRUCT(MulticallEntry, struct multicall_entry, F(Op, op) F(Result, result) F(Args, args));
    STRUCT(Sysctl, struct xen_sysctl, F(Cmd, cmd) F(InterfaceVersion, interface_version) F(U, u));
    STRUCT(GetDomainInfoList, struct xen_sysctl_getdomaininfolist,
        F(FirstDomain, first_domain) F(MaxDomains, max_domains) F(Buffer, buffer) F(NumDomains, num_domains));
#define PHYSINFO_HEAD \
    F(ThreadsPerCore, threads_per_core) F(CoresPerSocket, cores_per_socket) F(CPUs, nr_cpus) F(MaxCPUID, max_cpu_id) \
    F(Nodes, nr_nodes) F(MaxNodeID, max_node_id) F(CPUKHz, cpu_khz) F(Capabilities, capabilities)
#define PHYSINFO_TAIL \
    F(TotalPages, total_pages) F(FreePages, free_pages) F(ScrubPages, scrub_pages) \
    F(OutstandingPages, outstanding_pages) F(MaxMFN, max_mfn) F(HWCap, hw_cap)
#if XEN_SYSCTL_INTERFACE_VERSION < 0x15
    STRUCT(PhysInfo414, struct xen_sysctl_physinfo, PHYSINFO_HEAD PHYSINFO_TAIL);
#else
    STRUCT(PhysInfo417, struct xen_sysctl_physinfo,
        PHYSINFO_HEAD F(ArchCapabilities, arch_capabilities) PHYSINFO_TAIL);
#endif
    STRUCT(ReadConsole, struct xen_sysctl_readconsole,
        F(Clear, clear) F(Incremental, incremental) F(Index, index) F(Buffer, buffer) F(Count, count));
    STRUCT(CompileInfo, struct xen_compile_info,
        F(Compiler, compiler) F(By, compile_by) F(Domain, compile_domain) F(Date, compile_date));
    STRUCT(FlaskOp, struct xen_flask_op, F(Cmd, cmd) F(InterfaceVersion, interface_version) F(U, u));
    STRUCT(MemoryReservation, struct xen_memory_reservation,
        F(ExtentStart, extent_start) F(NrExtents, nr_extents) F(ExtentOrder, extent_order)
        F(MemFlags, mem_flags) F(DomID, domid));
    STRUCT(AccessOp, struct xen_mem_access_op,
        F(Op, op) F(Access, access) F(DomID, domid) F(Nr, nr) F(PFN, pfn)
        F(PFNList, pfn_list) F(AccessList, access_list));
    STRUCT(MemSharingFork, struct xen_mem_sharing_op,
        F(Op, op) F(Domain, domain) F(Parent, u.fork.parent_domain) F(Flags, u.fork.flags) F(Pad, u.fork.pad));
    STRUCT(HVMSaveDescriptor, struct hvm_save_descriptor,
        F(TypeCode, typecode) F(Instance, instance) F(Length, length));
    STRUCT(HVMParam, struct xen_hvm_param, F(DomID, domid) F(Index, index) F(Value, value));
    STRUCT(DMOp, struct xen_dm_op, F(Op, op) F(Inj, u.inject_event));
    STRUCT(InjectEvent, struct xen_dm_op_inject_event,
        F(VCPU, vcpuid) F(Vector, vector) F(Type, type) F(InsnLen, insn_len) F(ErrorCode, error_code) F(CR2, cr2));
    STRUCT(AltP2MOp, struct xen_hvm_altp2m_op,
        F(Version, version) F(Cmd, cmd) F(Domain, domain) F(U, u));
    STRUCT(AltP2MState, struct xen_hvm_altp2m_domain_state, F(State, state));
    STRUCT(AltP2MView, struct xen_hvm_altp2m_view, F(View, view) F(DefaultAccess, hvmmem_default_access));
    STRUCT(AltP2MAccess, struct xen_hvm_altp2m_mem_access,
        F(View, view) F(Access, access) F(GFN, gfn));
    STRUCT(AltP2MVCPUView, struct xen_hvm_altp2m_get_vcpu_p2m_idx, F(VCPU, vcpu_id) F(View, altp2m_idx));
    STRUCT(AltP2MChange, struct xen_hvm_altp2m_change_gfn,
        F(View, view) F(OldGFN, old_gfn) F(NewGFN, new_gfn));
    STRUCT(HVMHWCPU, struct hvm_hw_cpu,
        F(FPURegs, fpu_regs)
        F(RAX, rax) F(RBX, rbx) F(RCX, rcx) F(RDX, rdx) F(RBP, rbp) F(RSI, rsi) F(RDI, rdi) F(RSP, rsp)
        F(R8, r8) F(R9, r9) F(R10, r10) F(R11, r11) F(R12, r12) F(R13, r13) F(R14, r14) F(R15, r15)
        F(RIP, rip) F(RFLAGS, rflags) F(CR0, cr0) F(CR2, cr2) F(CR3, cr3) F(CR4, cr4)
        F(DR0, dr0) F(DR1, dr1) F(DR2, dr2) F(DR3, dr3) F(DR6, dr6) F(DR7, dr7)
        F(CSSel, cs_sel) F(DSSel, ds_sel) F(ESSel, es_sel) F(FSSel, fs_sel) F(GSSel, gs_sel) F(SSSel, ss_sel)
        F(TRSel, tr_sel) F(LDTRSel, ldtr_sel)
        F(CSLimit, cs_limit) F(DSLimit, ds_limit) F(ESLimit, es_limit) F(FSLimit, fs_limit)
        F(GSLimit, gs_limit) F(SSLimit, ss_limit) F(TRLimit, tr_limit) F(LDTRLimit, ldtr_limit)
        F(IDTRLimit, idtr_limit) F(GDTRLimit, gdtr_limit)
        F(CSBase, cs_base) F(DSBase, ds_base) F(ESBase, es_base) F(FSBase, fs_base) F(GSBase, gs_base)
        F(SSBase, ss_base) F(TRBase, tr_base) F(LDTRBase, ldtr_base) F(IDTRBase, idtr_base) F(GDTRBase, gdtr_base)
        F(CSAR, cs_arbytes) F(DSAR, ds_arbytes) F(ESAR, es_arbytes) F(FSAR, fs_arbytes) F(GSAR, gs_arbytes)
        F(SSAR, ss_arbytes) F(TRAR, tr_arbytes) F(LDTRAR, ldtr_arbytes)
        F(SysenterCS, sysenter_cs) F(SysenterESP, sysenter_esp) F(SysenterEIP, sysenter_eip)
        F(ShadowGS, shadow_gs) F(MSRFlags, msr_flags) F(LSTAR, msr_lstar) F(STAR, msr_star) F(CSTAR, msr_cstar)
        F(SyscallMask, msr_syscall_mask) F(EFER, msr_efer) F(TSCAux, msr_tsc_aux) F(TSC, tsc)
        F(PendingEvent, pending_event) F(ErrorCode, error_code) F(Flags, flags));
}

#define REGS_HEAD \
    F(RAX, rax) F(RCX, rcx) F(RDX, rdx) F(RBX, rbx) F(RSP, rsp) F(RBP, rbp) F(RSI, rsi) F(RDI, rdi) \
    F(R8, r8) F(R9, r9) F(R10, r10) F(R11, r11) F(R12, r12) F(R13, r13) F(R14, r14) F(R15, r15) \
    F(RFLAGS, rflags) F(DR6, dr6) F(DR7, dr7) F(RIP, rip) F(CR0, cr0) F(CR2, cr2) F(CR3, cr3) F(CR4, cr4) \
    F(SysenterCS, sysenter_cs) F(SysenterESP, sysenter_esp) F(SysenterEIP, sysenter_eip) \
    F(EFER, msr_efer) F(STAR, msr_star) F(LSTAR, msr_lstar) F(GDTRBase, gdtr_base)
#define REGS_TAIL \
    F(CSBase, cs_base) F(SSBase, ss_base) F(DSBase, ds_base) F(ESBase, es_base) \
    F(FSBase, fs_base) F(GSBase, gs_base) \
    F(CS, cs) F(SS, ss) F(DS, ds) F(ES, es) F(FS, fs) F(GS, gs) \
    F(ShadowGS, shadow_gs) F(GDTRLimit, gdtr_limit) \
    F(CSSel, cs_sel) F(SSSel, ss_sel) F(DSSel, ds_sel) F(ESSel, es_sel) F(FSSel, fs_sel) F(GSSel, gs_sel)

static void vm_event(void)
{
    HEAD(VMEventHeader, struct vm_event_st, u,
        F(Version, version) F(Flags, flags) F(Reason, reason) F(VCPUID, vcpu_id) F(Altp2mIdx, altp2m_idx) F(U, u));
    STRUCT(EventMemAccess, struct vm_event_mem_access,
        F(GFN, gfn) F(Offset, offset) F(GLA, gla) F(Flags, flags));
    STRUCT(EventCtrlReg, struct vm_event_write_ctrlreg, F(Index, index) F(New, new_value) F(Old, old_value));
    STRUCT(EventDebug, struct vm_event_debug,
        F(GFN, gfn) F(PendingDbg, pending_dbg) F(InsnLength, insn_length) F(Type, type));
    STRUCT(EventMSR, struct vm_event_mov_to_msr, F(MSR, msr) F(New, new_value) F(Old, old_value));
    STRUCT(EventCPUID, struct vm_event_cpuid, F(InsnLength, insn_length) F(Leaf, leaf) F(Subleaf, subleaf));
    STRUCT(EventDescAccess, struct vm_event_desc_access,
        F(InstrInfo, arch.vmx.instr_info) F(ExitQualification, arch.vmx.exit_qualification)
        F(Descriptor, descriptor) F(IsWrite, is_write));
#ifdef VM_EVENT_REASON_VMEXIT
    STRUCT(EventVMExit, struct vm_event_vmexit,
        F(Reason, arch.vmx.reason) F(Qualification, arch.vmx.qualification));
#endif
    STRUCT(EventSingleStep, struct vm_event_singlestep, F(GFN, gfn));
    STRUCT(FastSingleStep, struct vm_event_fast_singlestep, F(P2MIdx, p2midx));
#if VM_EVENT_INTERFACE_VERSION == 6
    STRUCT(RegsV6, struct vm_event_regs_x86, REGS_HEAD REGS_TAIL);
#else
    STRUCT(RegsV7, struct vm_event_regs_x86, REGS_HEAD F(NPTBase, npt_base) F(VMTracePos, vmtrace_pos) REGS_TAIL);
#endif
}

static void devices(void)
{
    STRUCT(PrivcmdHypercall, struct privcmd_hypercall, F(Op, op) F(Arg, arg));
    STRUCT(PrivcmdMmapBatchV2, struct privcmd_mmapbatch_v2,
        F(Num, num) F(Dom, dom) F(Addr, addr) F(Arr, arr) F(Err, err));
    STRUCT(PrivcmdDMOp, struct privcmd_dm_op, F(Dom, dom) F(Num, num) F(UBufs, ubufs));
    STRUCT(PrivcmdDMOpBuf, struct privcmd_dm_op_buf, F(UPtr, uptr) F(Size, size));
    STRUCT(PrivcmdResource, struct privcmd_mmap_resource,
        F(Dom, dom) F(Type, type) F(ID, id) F(Idx, idx) F(Num, num) F(Addr, addr));
    STRUCT(EvtchnBindInterdomain, struct ioctl_evtchn_bind_interdomain,
        F(RemoteDomain, remote_domain) F(RemotePort, remote_port));
    STRUCT(EvtchnBindUnbound, struct ioctl_evtchn_bind_unbound_port, F(RemoteDomain, remote_domain));
    STRUCT(EvtchnPort, struct ioctl_evtchn_notify, F(Port, port));
}

static void constants(void)
{
    N(HypercallMemoryOp, __HYPERVISOR_memory_op);
    N(HypercallMulticall, __HYPERVISOR_multicall);
    N(HypercallXenVersion, __HYPERVISOR_xen_version);
    N(HypercallXSMOp, __HYPERVISOR_xsm_op);
    N(HypercallHVMOp, __HYPERVISOR_hvm_op);
    N(HypercallSysctl, __HYPERVISOR_sysctl);
    N(HypercallDomctl, __HYPERVISOR_domctl);
    N(DomIDSelf, DOMID_SELF);
    N(DomIDInvalid, DOMID_INVALID);
    N(DomIDFirstReserved, DOMID_FIRST_RESERVED);
    N(XenVerVersion, XENVER_version);
    N(XenVerExtraVersion, XENVER_extraversion);
    N(XenVerCompileInfo, XENVER_compile_info);
    N(XenVerChangeset, XENVER_changeset);
    N(XenVerCommandLine, XENVER_commandline);
    N(ExtraVersionSize, sizeof(xen_extraversion_t));
    N(ChangesetSize, sizeof(xen_changeset_info_t));
    N(CommandLineSize, sizeof(xen_commandline_t));
    N(FlaskVersion, XEN_FLASK_INTERFACE_VERSION);
    N(FlaskGetEnforce, FLASK_GETENFORCE);

    N(DomctlPauseDomain, XEN_DOMCTL_pausedomain);
    N(DomctlUnpauseDomain, XEN_DOMCTL_unpausedomain);
    N(DomctlGetDomainInfo, XEN_DOMCTL_getdomaininfo);
    N(DomctlMaxMem, XEN_DOMCTL_max_mem);
    N(DomctlGetHVMContext, XEN_DOMCTL_gethvmcontext);
    N(DomctlDebugOp, XEN_DOMCTL_debug_op);
    N(DomctlGetHVMContextPartial, XEN_DOMCTL_gethvmcontext_partial);
    N(DomctlVMEventOp, XEN_DOMCTL_vm_event_op);
    N(DomctlMonitorOp, XEN_DOMCTL_monitor_op);
    N(DomInfDying, XEN_DOMINF_dying);
    N(DomInfHVM, XEN_DOMINF_hvm_guest);
    N(DomInfShutdown, XEN_DOMINF_shutdown);
    N(DomInfPaused, XEN_DOMINF_paused);
    N(DomInfBlocked, XEN_DOMINF_blocked);
    N(DomInfRunning, XEN_DOMINF_running);
    N(DomInfHAP, XEN_DOMINF_hap);
    N(DomInfShutdownShift, XEN_DOMINF_shutdownshift);
    N(DebugOpSingleStepOff, XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF);
    N(DebugOpSingleStepOn, XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_ON);
    N(VMEventEnable, XEN_VM_EVENT_ENABLE);
    N(VMEventDisable, XEN_VM_EVENT_DISABLE);
    N(VMEventResume, XEN_VM_EVENT_RESUME);
    N(VMEventGetVersion, XEN_VM_EVENT_GET_VERSION);
    N(VMEventModeMonitor, XEN_DOMCTL_VM_EVENT_OP_MONITOR);
    N(MonitorEnable, XEN_DOMCTL_MONITOR_OP_ENABLE);
    N(MonitorDisable, XEN_DOMCTL_MONITOR_OP_DISABLE);
    N(MonitorGetCapabilities, XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES);
    N(MonitorWriteCtrlReg, XEN_DOMCTL_MONITOR_EVENT_WRITE_CTRLREG);
    N(MonitorMovToMSR, XEN_DOMCTL_MONITOR_EVENT_MOV_TO_MSR);
    N(MonitorGuestRequest, XEN_DOMCTL_MONITOR_EVENT_GUEST_REQUEST);
    N(MonitorDebugException, XEN_DOMCTL_MONITOR_EVENT_DEBUG_EXCEPTION);
    N(MonitorCPUID, XEN_DOMCTL_MONITOR_EVENT_CPUID);
    N(MonitorDescAccess, XEN_DOMCTL_MONITOR_EVENT_DESC_ACCESS);
    N(MonitorSingleStep, XEN_DOMCTL_MONITOR_EVENT_SINGLESTEP);
    N(MonitorSoftwareBreakpoint, XEN_DOMCTL_MONITOR_EVENT_SOFTWARE_BREAKPOINT);
    N(MonitorInterrupt, XEN_DOMCTL_MONITOR_EVENT_INTERRUPT);
    N(MonitorEmulUnimplemented, XEN_DOMCTL_MONITOR_EVENT_EMUL_UNIMPLEMENTED);
#ifdef XEN_DOMCTL_MONITOR_EVENT_INGUEST_PAGEFAULT
    N(MonitorInguestPageFault, XEN_DOMCTL_MONITOR_EVENT_INGUEST_PAGEFAULT);
#endif
#ifdef XEN_DOMCTL_MONITOR_EVENT_VMEXIT
    N(MonitorVMExit, XEN_DOMCTL_MONITOR_EVENT_VMEXIT);
#endif
#ifdef PATCHED
    N(MonitorOpCR3Filter, XEN_DOMCTL_MONITOR_OP_CR3_FILTER);
    N(CR3FilterQuery, XEN_DOMCTL_MONITOR_CR3_QUERY);
    N(CR3FilterSet, XEN_DOMCTL_MONITOR_CR3_SET);
    N(CR3FilterAdd, XEN_DOMCTL_MONITOR_CR3_ADD);
    N(CR3FilterRemove, XEN_DOMCTL_MONITOR_CR3_REMOVE);
    N(CR3FilterList, XEN_DOMCTL_MONITOR_CR3_LIST);
    N(CR3FilterClear, XEN_DOMCTL_MONITOR_CR3_CLEAR);
    N(CR3FilterVersion, XEN_DOMCTL_MONITOR_CR3_VERSION);
    N(CR3FilterOff, XEN_DOMCTL_MONITOR_CR3_MODE_OFF);
    N(CR3FilterMatch, XEN_DOMCTL_MONITOR_CR3_MODE_MATCH);
    N(CR3FilterMember, XEN_DOMCTL_MONITOR_CR3_MODE_MEMBER);
    N(CR3FilterTargets, XEN_DOMCTL_MONITOR_CR3_F_TARGETS);
#endif
    N(SysctlReadConsole, XEN_SYSCTL_readconsole);
    N(SysctlPhysInfo, XEN_SYSCTL_physinfo);
    N(PhysCapHVM, XEN_SYSCTL_PHYSCAP_hvm);
    N(PhysCapHAP, XEN_SYSCTL_PHYSCAP_hap);
    N(PhysCapShadow, XEN_SYSCTL_PHYSCAP_shadow);
#ifdef XEN_SYSCTL_PHYSCAP_vmtrace
    N(PhysCapVMTrace, XEN_SYSCTL_PHYSCAP_vmtrace);
#endif
    N(SysctlGetDomainInfoList, XEN_SYSCTL_getdomaininfolist);

    N(MemDecreaseReservation, XENMEM_decrease_reservation);
    N(MemPopulatePhysmap, XENMEM_populate_physmap);
    N(MemMaximumGPFN, XENMEM_maximum_gpfn);
    N(MemAccessOp, XENMEM_access_op);
    N(MemSharingOp, XENMEM_sharing_op);
    N(SharingFork, XENMEM_sharing_op_fork);
    N(SharingForkReset, XENMEM_sharing_op_fork_reset);
    N(ForkWithIOMMUAllowed, XENMEM_FORK_WITH_IOMMU_ALLOWED);
    N(ForkBlockInterrupts, XENMEM_FORK_BLOCK_INTERRUPTS);
#if XEN_MINOR >= 17
    N(ForkResetState, XENMEM_FORK_RESET_STATE);
    N(ForkResetMemory, XENMEM_FORK_RESET_MEMORY);
#endif
    N(AccessOpSet, XENMEM_access_op_set_access);
    N(AccessOpGet, XENMEM_access_op_get_access);
    N(ResourceGrantTable, XENMEM_resource_grant_table);
    N(ResourceGrantTableShared, XENMEM_resource_grant_table_id_shared);
    N(AccessN, XENMEM_access_n);
    N(AccessR, XENMEM_access_r);
    N(AccessW, XENMEM_access_w);
    N(AccessRW, XENMEM_access_rw);
    N(AccessX, XENMEM_access_x);
    N(AccessRX, XENMEM_access_rx);
    N(AccessWX, XENMEM_access_wx);
    N(AccessRWX, XENMEM_access_rwx);
    N(AccessRX2RW, XENMEM_access_rx2rw);
    N(AccessN2RWX, XENMEM_access_n2rwx);
#if XEN_MINOR >= 20
    N(AccessRPW, XENMEM_access_r_pw);
#endif

    N(HVMOpSetParam, HVMOP_set_param);
    N(HVMOpGetParam, HVMOP_get_param);
    N(HVMOpAltP2M, HVMOP_altp2m);
    N(HVMParamStorePFN, HVM_PARAM_STORE_PFN);
    N(HVMParamStoreEvtchn, HVM_PARAM_STORE_EVTCHN);
    N(HVMParamIdentPT, HVM_PARAM_IDENT_PT);
    N(HVMParamConsolePFN, HVM_PARAM_CONSOLE_PFN);
    N(HVMParamConsoleEvtchn, HVM_PARAM_CONSOLE_EVTCHN);
    N(HVMParamMonitorRingPFN, HVM_PARAM_MONITOR_RING_PFN);
    N(HVMParamAltP2M, HVM_PARAM_ALTP2M);
    N(AltP2MVersion, HVMOP_ALTP2M_INTERFACE_VERSION);
    N(AltP2MGetDomainState, HVMOP_altp2m_get_domain_state);
    N(AltP2MSetDomainState, HVMOP_altp2m_set_domain_state);
    N(AltP2MCreate, HVMOP_altp2m_create_p2m);
    N(AltP2MDestroy, HVMOP_altp2m_destroy_p2m);
    N(AltP2MSwitch, HVMOP_altp2m_switch_p2m);
    N(AltP2MSetMemAccess, HVMOP_altp2m_set_mem_access);
    N(AltP2MChangeGFN, HVMOP_altp2m_change_gfn);
    N(AltP2MGetVCPUView, HVMOP_altp2m_get_p2m_idx);
    N(DMOpInjectEvent, XEN_DMOP_inject_event);
    N(EventTypeSoftwareException, XEN_DMOP_EVENT_sw_exc);
    N(HVMSaveEnd, HVM_SAVE_CODE(END));
    N(HVMSaveHeader, HVM_SAVE_CODE(HEADER));
    N(HVMSaveCPU, HVM_SAVE_CODE(CPU));
    N(HVMSaveLAPIC, HVM_SAVE_CODE(LAPIC));
    N(HVMSaveLAPICRegs, HVM_SAVE_CODE(LAPIC_REGS));
    N(HVMSaveMTRR, HVM_SAVE_CODE(MTRR));
    N(HVMSaveXSave, CPU_XSAVE_CODE);
    N(HVMSaveMSR, CPU_MSR_CODE);

    N(RingReqProd, offsetof(struct vm_event_sring, req_prod));
    N(RingReqEvent, offsetof(struct vm_event_sring, req_event));
    N(RingRspProd, offsetof(struct vm_event_sring, rsp_prod));
    N(RingRspEvent, offsetof(struct vm_event_sring, rsp_event));
    N(RingEntries, offsetof(struct vm_event_sring, ring));
    N(RingSlots, __CONST_RING_SIZE(vm_event, 4096));
    N(VMEventData, offsetof(struct vm_event_st, data));
    N(ReasonMemAccess, VM_EVENT_REASON_MEM_ACCESS);
    N(ReasonWriteCtrlReg, VM_EVENT_REASON_WRITE_CTRLREG);
    N(ReasonSoftwareBreakpoint, VM_EVENT_REASON_SOFTWARE_BREAKPOINT);
    N(ReasonMovToMSR, VM_EVENT_REASON_MOV_TO_MSR);
    N(ReasonGuestRequest, VM_EVENT_REASON_GUEST_REQUEST);
    N(ReasonDebugException, VM_EVENT_REASON_DEBUG_EXCEPTION);
    N(ReasonCPUID, VM_EVENT_REASON_CPUID);
    N(ReasonDescriptorAccess, VM_EVENT_REASON_DESCRIPTOR_ACCESS);
#ifdef VM_EVENT_REASON_VMEXIT
    N(ReasonVMExit, VM_EVENT_REASON_VMEXIT);
#endif
    N(DescIDTR, VM_EVENT_DESC_IDTR);
    N(DescGDTR, VM_EVENT_DESC_GDTR);
    N(DescLDTR, VM_EVENT_DESC_LDTR);
    N(DescTR, VM_EVENT_DESC_TR);
    N(ReasonSingleStep, VM_EVENT_REASON_SINGLESTEP);
    N(FlagVCPUPaused, VM_EVENT_FLAG_VCPU_PAUSED);
    N(FlagForeign, VM_EVENT_FLAG_FOREIGN);
    N(FlagEmulate, VM_EVENT_FLAG_EMULATE);
    N(FlagToggleSingleStep, VM_EVENT_FLAG_TOGGLE_SINGLESTEP);
    N(FlagAlternateP2M, VM_EVENT_FLAG_ALTERNATE_P2M);
    N(FlagSetRegisters, VM_EVENT_FLAG_SET_REGISTERS);
    N(FlagSetEmulInsnData, VM_EVENT_FLAG_SET_EMUL_INSN_DATA);
    N(FlagFastSingleStep, VM_EVENT_FLAG_FAST_SINGLESTEP);
    N(MemAccessR, MEM_ACCESS_R);
    N(MemAccessW, MEM_ACCESS_W);
    N(MemAccessX, MEM_ACCESS_X);
    N(MemAccessGLAValid, MEM_ACCESS_GLA_VALID);

    N(IoctlPrivcmdHypercall, IOCTL_PRIVCMD_HYPERCALL);
    N(IoctlPrivcmdMmapBatchV2, IOCTL_PRIVCMD_MMAPBATCH_V2);
    N(IoctlPrivcmdDMOp, IOCTL_PRIVCMD_DM_OP);
    N(IoctlPrivcmdResource, IOCTL_PRIVCMD_MMAP_RESOURCE);
    N(IoctlEvtchnBindInterdomain, IOCTL_EVTCHN_BIND_INTERDOMAIN);
    N(IoctlEvtchnBindUnbound, IOCTL_EVTCHN_BIND_UNBOUND_PORT);
    N(IoctlEvtchnUnbind, IOCTL_EVTCHN_UNBIND);
    N(IoctlEvtchnNotify, IOCTL_EVTCHN_NOTIFY);
}

/* What depends on the release; functions of the Go package tell it. */
static void release(void)
{
    N(Minor, XEN_MINOR);
    N(DomctlVersion, XEN_DOMCTL_INTERFACE_VERSION);
    N(SysctlVersion, XEN_SYSCTL_INTERFACE_VERSION);
    N(VMEventVersion, VM_EVENT_INTERFACE_VERSION);
    N(VMEventSize, sizeof(vm_event_request_t));
    N(DomainInfoStride, sizeof(struct xen_domctl_getdomaininfo));
    N(AccessDefault, XENMEM_access_default);
}

int main(void)
{
    /* The first section follows the brace; the others a comma. */
    printf("{\n\t\"release\": {\n");
    sep = "";
    release();
    end_section();
    section("constants");
    constants();
    end_section();
    section("structs");
    domctl();
    hypercalls();
    vm_event();
    devices();
    end_section();
    printf("\n}\n");
    return 0;
}
