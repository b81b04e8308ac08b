package xenfake

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

var domctlNames = map[uint32]string{
	abi.DomctlPauseDomain:          "pausedomain",
	abi.DomctlUnpauseDomain:        "unpausedomain",
	abi.DomctlGetDomainInfo:        "getdomaininfo",
	abi.DomctlMaxMem:               "max_mem",
	abi.DomctlGetHVMContext:        "gethvmcontext",
	abi.DomctlDebugOp:              "debug_op",
	abi.DomctlGetHVMContextPartial: "gethvmcontext_partial",
	abi.DomctlVMEventOp:            "vm_event_op",
	abi.DomctlMonitorOp:            "monitor_op",
}

// callName names a call for [Xen.Recorded] and [Config.Policy]; the name is
// empty if nobody wants it.
func callName(x *Xen, h *abi.PrivcmdHypercall) string {
	if !x.logging && x.cfg.Policy == nil {
		return ""
	}
	switch h.Op {
	case abi.HypercallDomctl:
		if d, errno := at[abi.Domctl](x, h.Arg[0]); errno == 0 {
			switch d.Cmd {
			case abi.DomctlVMEventOp:
				return fmt.Sprintf("domctl vm_event_op %d", hcbuf.Overlay[abi.VMEventOp](d.U[:]).Op)
			case abi.DomctlMonitorOp:
				u := hcbuf.Overlay[abi.MonitorOp](d.U[:])
				return fmt.Sprintf("domctl monitor_op %d event %d", u.Op, u.Event)
			}
			return "domctl " + domctlNames[d.Cmd]
		}
	case abi.HypercallMemoryOp:
		return fmt.Sprintf("memory_op %d", h.Arg[0])
	case abi.HypercallHVMOp:
		return fmt.Sprintf("hvm_op %d", h.Arg[0])
	}
	return fmt.Sprintf("hypercall %d", h.Op)
}

// denies asks the policy, which sees nothing of calls about no domain.
func (x *Xen) denies(h *abi.PrivcmdHypercall, name string) bool {
	if x.cfg.Policy == nil {
		return false
	}
	switch h.Op {
	case abi.HypercallDomctl:
		d, errno := at[abi.Domctl](x, h.Arg[0])
		return errno == 0 && x.domains[d.Domain] != nil && x.cfg.Policy(name)
	case abi.HypercallSysctl:
		s, errno := at[abi.Sysctl](x, h.Arg[0])
		probe := errno == 0 && s.Cmd == abi.SysctlGetDomainInfoList && hcbuf.Overlay[abi.GetDomainInfoList](s.U[:]).MaxDomains == 0
		return errno == 0 && !probe && x.cfg.Policy(name)
	}
	return x.cfg.Policy(name)
}

// hypercallOp is the hypervisor's entry. Negative results are the errno.
func (x *Xen) hypercallOp(op, a0, a1, a2 uint64) (int64, syscall.Errno) {
	if errno := x.cfg.Deny[op]; errno != 0 {
		return 0, errno
	}
	switch op {
	case abi.HypercallXenVersion:
		return x.xenVersion(a0, a1)
	case abi.HypercallDomctl:
		d, errno := at[abi.Domctl](x, a0)
		if errno == 0 {
			errno = x.domctl(d)
		}
		return 0, errno
	case abi.HypercallSysctl:
		s, errno := at[abi.Sysctl](x, a0)
		if errno == 0 {
			errno = x.sysctl(s)
		}
		return 0, errno
	case abi.HypercallMemoryOp:
		return x.memoryOp(a0, a1)
	case abi.HypercallHVMOp:
		return 0, x.hvmOp(a0, a1)
	case abi.HypercallXSMOp:
		return x.xsmOp(a0)
	case abi.HypercallMulticall:
		for i := range a1 {
			e, errno := at[abi.MulticallEntry](x, a0+64*i)
			if errno != 0 {
				return 0, errno
			}
			n, errno := x.hypercallOp(e.Op, e.Args[0], e.Args[1], e.Args[2])
			if errno != 0 {
				n = -int64(errno)
			}
			e.Result = n
		}
		_ = a2
		return 0, 0
	}
	return 0, syscall.ENOSYS
}

func (x *Xen) xenVersion(cmd, arg uint64) (int64, syscall.Errno) {
	switch cmd {
	case abi.XenVerVersion:
		return int64(x.cfg.Major<<16 | x.cfg.Minor), 0
	case abi.XenVerExtraVersion:
		return 0, x.text(arg, abi.ExtraVersionSize, x.cfg.Extra)
	case abi.XenVerChangeset:
		return 0, x.text(arg, abi.ChangesetSize, "fake")
	case abi.XenVerCommandLine:
		return 0, x.text(arg, abi.CommandLineSize, x.cfg.CommandLine)
	case abi.XenVerCompileInfo:
		i, errno := at[abi.CompileInfo](x, arg)
		if errno == 0 {
			*i = abi.CompileInfo{}
			copy(i.Compiler[:], "go")
			copy(i.By[:], "xenfake")
			copy(i.Domain[:], "localhost")
			copy(i.Date[:], "today")
		}
		return 0, errno
	}
	return 0, syscall.ENOSYS
}

// text fills the size bytes at addr.
func (x *Xen) text(addr uint64, size int, s string) syscall.Errno {
	b, errno := x.memory(addr, size)
	if errno == 0 {
		clear(b)
		copy(b[:size-1], s)
	}
	return errno
}

func (x *Xen) xsmOp(arg uint64) (int64, syscall.Errno) {
	op, errno := at[abi.FlaskOp](x, arg)
	switch {
	case errno != 0:
		return 0, errno
	case !x.cfg.Flask || op.Cmd != abi.FlaskGetEnforce || op.InterfaceVersion != abi.FlaskVersion:
		return 0, syscall.ENOSYS
	case x.cfg.Policy != nil:
		return 1, 0
	}
	return 0, 0
}

func (x *Xen) physInfo(s *abi.Sysctl) syscall.Errno {
	head := abi.PhysInfoHead{CPUs: 2, Capabilities: abi.PhysCapHVM | abi.PhysCapHAP}
	tail := abi.PhysInfoTail{TotalPages: 1 << 19, FreePages: 1 << 18}
	if x.mtf() {
		tail.HWCap[abi.HWCapVMXWord] = abi.HWCapVMX
	} else {
		tail.HWCap[abi.HWCapSVMWord] = abi.HWCapSVM
	}
	if x.cfg.Sysctl >= abi.SysctlPhysInfo417 {
		*hcbuf.Overlay[abi.PhysInfo417](s.U[:]) = abi.PhysInfo417{PhysInfoHead: head, PhysInfoTail: tail}
	} else {
		*hcbuf.Overlay[abi.PhysInfo414](s.U[:]) = abi.PhysInfo414{PhysInfoHead: head, PhysInfoTail: tail}
	}
	return 0
}

func (d *Domain) info() abi.GetDomainInfo {
	reason := uint32(255)
	if d.shutdown {
		reason = uint32(d.reason)
	}
	i := abi.GetDomainInfo{
		Domain:      d.cfg.ID,
		Flags:       reason << abi.DomInfShutdownShift,
		TotPages:    uint64(len(d.slots)),
		MaxPages:    uint64(d.pages),
		CPUTime:     1e9,
		OnlineVCPUs: uint32(d.cfg.VCPUs),
		MaxVCPUID:   uint32(d.cfg.VCPUs - 1),
		Handle:      d.uuid,
	}
	for _, f := range []struct {
		on   bool
		flag uint32
	}{
		{d.dying, abi.DomInfDying},
		{d.shutdown, abi.DomInfShutdown},
		{!d.cfg.PV, abi.DomInfHVM},
		{!d.cfg.PV && !d.cfg.Shadow, abi.DomInfHAP},
		{d.pauses > 0, abi.DomInfPaused},
	} {
		if f.on {
			i.Flags |= f.flag
		}
	}
	return i
}

func (x *Xen) domctl(dc *abi.Domctl) syscall.Errno {
	if dc.InterfaceVersion != x.cfg.Domctl {
		return syscall.EACCES
	}
	if dc.Cmd == abi.DomctlGetDomainInfo {
		return x.getDomainInfo(dc)
	}
	if x.cfg.NoVMEvent && (dc.Cmd == abi.DomctlVMEventOp || dc.Cmd == abi.DomctlMonitorOp) {
		return syscall.EOPNOTSUPP
	}
	if dc.Cmd == abi.DomctlVMEventOp && dc.Domain == abi.DomIDInvalid {
		u := hcbuf.Overlay[abi.VMEventOp](dc.U[:])
		if u.Op != abi.VMEventGetVersion {
			x.violate("vm_event_op %d on DOMID_INVALID crashes the host", u.Op)
			return syscall.ESRCH
		}
		u.Out = x.cfg.VMEvent
		return 0
	}
	d := x.domains[dc.Domain]
	if d == nil {
		return syscall.ESRCH
	}
	switch dc.Cmd {
	case abi.DomctlPauseDomain:
		if d.pauses == 255 {
			return syscall.EOVERFLOW
		}
		d.pauses++
		return 0
	case abi.DomctlUnpauseDomain:
		if d.pauses == 0 {
			return syscall.EINVAL
		}
		d.pauses--
		for v, n := range d.waiting {
			if d.pauses == 0 && d.ring == nil && n > 0 && !d.dying {
				x.violate("vCPU %d stays frozen without a ring", v)
			}
		}
		if d.pauses == 0 && d.ring != nil && d.ring.overshot {
			x.violate("the domain runs on a ring with too many responses")
		}
		if d.pauses == 0 && d.onRun != nil {
			d.onRun()
		}
		return 0
	case abi.DomctlMaxMem:
		d.pages = int(min(hcbuf.Overlay[abi.MaxMem](dc.U[:]).MaxMemKB/4, 1<<40))
		return 0
	case abi.DomctlDebugOp:
		return x.debugOp(d, hcbuf.Overlay[abi.DebugOp](dc.U[:]))
	case abi.DomctlGetHVMContext:
		return x.wholeContext(d, hcbuf.Overlay[abi.HVMContext](dc.U[:]))
	case abi.DomctlGetHVMContextPartial:
		return x.getContext(d, hcbuf.Overlay[abi.HVMContextPartial](dc.U[:]))
	case abi.DomctlVMEventOp:
		return x.vmEventOp(d, hcbuf.Overlay[abi.VMEventOp](dc.U[:]))
	case abi.DomctlMonitorOp:
		if m := hcbuf.Overlay[abi.MonitorCR3Op](dc.U[:]); m.Op == abi.MonitorOpCR3Filter {
			return x.cr3FilterOp(d, m)
		}
		return x.monitorOp(d, hcbuf.Overlay[abi.MonitorOp](dc.U[:]))
	}
	return syscall.ENOSYS
}

func (x *Xen) getDomainInfo(dc *abi.Domctl) syscall.Errno {
	old := x.cfg.Minor <= 17
	if dc.Domain >= abi.DomIDFirstReserved {
		if old {
			return syscall.EINVAL
		}
		return syscall.ESRCH
	}
	for _, id := range slices.Sorted(maps.Keys(x.domains)) {
		// Up to 4.17 the next domain answers for one that is missing.
		if id == dc.Domain || old && id > dc.Domain {
			*hcbuf.Overlay[abi.GetDomainInfo](dc.U[:]) = x.domains[id].info()
			return 0
		}
	}
	return syscall.ESRCH
}

func (x *Xen) getContext(d *Domain, u *abi.HVMContextPartial) syscall.Errno {
	if d.cfg.PV {
		return syscall.EINVAL
	}
	if u.Type != abi.HVMSaveCPU {
		return syscall.EINVAL
	}
	if int(u.Instance) >= len(d.cpus) {
		return syscall.ENOENT
	}
	size := uint64(binary.Size(abi.HVMHWCPU{}))
	if u.Buffer == 0 {
		u.BufSize = size
		return 0
	}
	if u.BufSize < size {
		return syscall.ENOBUFS
	}
	u.BufSize = size
	p, errno := at[abi.HVMHWCPU](x, u.Buffer)
	if errno == 0 {
		*p = d.cpus[u.Instance]
	}
	return errno
}

func (x *Xen) vmEventOp(d *Domain, u *abi.VMEventOp) syscall.Errno {
	if u.Mode != abi.VMEventModeMonitor {
		return syscall.ENOSYS
	}
	switch u.Op {
	case abi.VMEventEnable:
		if d.cfg.NoRingPage {
			return syscall.EOPNOTSUPP
		}
		if d.ring != nil {
			return syscall.EBUSY
		}
		page := d.page(ringGFN)
		if page == nil {
			return syscall.ENOENT
		}
		d.ring = newFakeRing(d, page)
		u.Out = d.ring.port
		return 0
	case abi.VMEventDisable:
		if d.ring == nil {
			return syscall.EINVAL
		}
		for v, n := range d.waiting {
			if n > 0 && !d.dying && d.pauses == 0 {
				x.violate("DISABLE leaves vCPU %d frozen", v)
			}
		}
		// The events go first, also when the ring stays.
		clear(d.ctrlRegs)
		clear(d.events)
		clear(d.msrs)
		d.cr3Filter = nil
		if d.waitQueue {
			return syscall.EBUSY
		}
		d.ring = nil
		return 0
	case abi.VMEventResume:
		if d.ring == nil {
			return syscall.ENODEV
		}
		d.resume()
		return 0
	}
	return syscall.ENOSYS
}

func (x *Xen) monitorOp(d *Domain, u *abi.MonitorOp) syscall.Errno {
	if u.Op == abi.MonitorGetCapabilities {
		u.Event = x.cfg.Capabilities
		return 0
	}
	if u.Op != abi.MonitorEnable && u.Op != abi.MonitorDisable || u.Event > 31 || x.cfg.Capabilities>>u.Event&1 == 0 {
		return syscall.EOPNOTSUPP
	}
	on := u.Op == abi.MonitorEnable
	if on && d.ring == nil {
		x.violate("event %d enabled without a ring", u.Event)
	}
	switch u.Event {
	case abi.MonitorWriteCtrlReg:
		cr := *hcbuf.Overlay[abi.MonitorCtrlReg](u.U[:])
		if cr.Index > 3 {
			return syscall.EINVAL
		}
		if _, was := d.ctrlRegs[cr.Index]; was == on {
			return syscall.EEXIST
		}
		if on {
			d.ctrlRegs[cr.Index] = cr
		} else {
			delete(d.ctrlRegs, cr.Index)
			if cr.Index == 1 {
				d.cr3Filter = nil
			}
		}
		return 0
	case abi.MonitorMovToMSR:
		return x.monitorMSR(d, on, *hcbuf.Overlay[abi.MonitorMSR](u.U[:]))
	case abi.MonitorInterrupt:
		x.violate("the interrupt event crashes a debug build")
		return syscall.EOPNOTSUPP
	case abi.MonitorSingleStep, abi.MonitorSoftwareBreakpoint, abi.MonitorGuestRequest, abi.MonitorDebugException,
		abi.MonitorCPUID, abi.MonitorDescAccess, abi.MonitorVMExit:
		if d.events[u.Event] == on {
			return syscall.EEXIST
		}
		d.events[u.Event] = on
		if u.Event == abi.MonitorGuestRequest {
			d.request = *hcbuf.Overlay[abi.MonitorRequest](u.U[:])
		}
		return 0
	}
	return syscall.EOPNOTSUPP
}

func (x *Xen) monitorMSR(d *Domain, on bool, m abi.MonitorMSR) syscall.Errno {
	switch {
	case d.ring == nil:
		return syscall.ENXIO
	case m.MSR >= 0x40000000 && m.MSR < 0x40002000:
		x.violate("events for MSR %#x crash the host", m.MSR)
		return syscall.EINVAL
	case m.MSR >= 0x2000 && (m.MSR < 0xc0000000 || m.MSR >= 0xc0002000):
		return syscall.EINVAL
	}
	if _, was := d.msrs[m.MSR]; was == on {
		return syscall.EEXIST
	}
	delete(d.msrs, m.MSR)
	if on {
		d.msrs[m.MSR] = m
	}
	return 0
}

func (x *Xen) sysctl(s *abi.Sysctl) syscall.Errno {
	if s.InterfaceVersion != x.cfg.Sysctl {
		return syscall.EACCES
	}
	switch s.Cmd {
	case abi.SysctlPhysInfo:
		return x.physInfo(s)
	case abi.SysctlReadConsole:
		return x.readConsole(hcbuf.Overlay[abi.ReadConsole](s.U[:]))
	case abi.SysctlGetDomainInfoList:
	default:
		return syscall.ENOSYS
	}
	u := hcbuf.Overlay[abi.GetDomainInfoList](s.U[:])
	u.NumDomains = 0
	stride := abi.DomainInfoStride(x.cfg.Domctl)
	for _, id := range slices.Sorted(maps.Keys(x.domains)) {
		if id < u.FirstDomain || u.NumDomains == u.MaxDomains {
			continue
		}
		p, errno := at[abi.GetDomainInfo](x, u.Buffer+uint64(stride)*uint64(u.NumDomains))
		if errno != 0 {
			return errno
		}
		*p = x.domains[id].info()
		u.NumDomains++
	}
	return 0
}

func (x *Xen) memoryOp(cmd, arg uint64) (int64, syscall.Errno) {
	switch cmd {
	case abi.MemMaximumGPFN:
		p, errno := at[uint16](x, arg)
		if errno != 0 {
			return 0, errno
		}
		d := x.domains[*p]
		if d == nil {
			return 0, syscall.ESRCH
		}
		return int64(d.maxGPFN()), 0
	case abi.MemAccessOp:
		a, errno := at[abi.AccessOp](x, arg)
		if errno == 0 {
			errno = x.accessOp(a)
		}
		return 0, errno
	case abi.MemSharingOp:
		a, errno := at[abi.MemSharingFork](x, arg)
		if errno == 0 {
			errno = x.sharingOp(a)
		}
		return 0, errno
	case abi.MemPopulatePhysmap, abi.MemDecreaseReservation:
		// Every failure is the number of extents done: none.
		r, errno := at[abi.MemoryReservation](x, arg)
		if errno != 0 || r.NrExtents != 1 || r.ExtentOrder != 0 {
			return 0, 0
		}
		gfn, errno := at[uint64](x, r.ExtentStart)
		d := x.domains[r.DomID]
		if errno != 0 || d == nil {
			return 0, 0
		}
		if cmd == abi.MemPopulatePhysmap {
			if !d.populate(*gfn) {
				return 0, 0
			}
			return 1, 0
		}
		if _, ok := d.slots[*gfn]; !ok {
			return 0, 0
		}
		if d.ring != nil && d.ring.reqProd > 0 {
			x.violate("page %#x removed beside a ring: Xen would forget answers that vCPUs have not taken yet", *gfn)
		}
		delete(d.slots, *gfn)
		delete(d.access, *gfn)
		return 1, 0
	}
	return 0, syscall.ENOSYS
}

func (x *Xen) hvmOp(cmd, arg uint64) syscall.Errno {
	if cmd == abi.HVMOpAltP2M {
		return x.altp2mOp(arg)
	}
	p, errno := at[abi.HVMParam](x, arg)
	if errno != 0 {
		return errno
	}
	d := x.domains[p.DomID]
	switch {
	case cmd != abi.HVMOpGetParam:
		return syscall.ENOSYS
	case d == nil:
		return syscall.ESRCH
	case d.cfg.PV:
		return syscall.EINVAL
	}
	params := map[uint32]uint64{
		abi.HVMParamStorePFN: storeGFN, abi.HVMParamStoreEvtchn: 1, abi.HVMParamIdentPT: 0xfc000,
		abi.HVMParamConsolePFN: consoleGFN, abi.HVMParamConsoleEvtchn: 2, abi.HVMParamMonitorRingPFN: ringGFN,
	}
	if d.cfg.NoRingPage {
		delete(params, abi.HVMParamMonitorRingPFN)
	}
	const nrParams = 39
	if p.Index >= nrParams {
		return syscall.EINVAL
	}
	p.Value = params[p.Index]
	return 0
}
