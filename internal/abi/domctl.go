package abi

// XEN_DOMCTL_INTERFACE_VERSION from 4.14 to 4.22, for all of which the layouts
// below hold, and the end of the range worth probing for a clear error.
const (
	DomctlVersionMin   = 0x12
	DomctlVersionKnown = 0x18
	DomctlVersionMax   = 0x1f
)

// DomctlVersion returns the interface version that a release is expected to
// speak, or 0.
func DomctlVersion(major, minor int) uint32 {
	if major != 4 {
		return 0
	}
	switch {
	case minor >= 14 && minor <= 18:
		return 0x12 + uint32(minor-14)
	case minor >= 19 && minor <= 21:
		return 0x17
	case minor >= 22:
		return 0x18
	}
	return 0
}

// Domctl commands (domctl.h).
const (
	DomctlPauseDomain          = 3
	DomctlUnpauseDomain        = 4
	DomctlGetDomainInfo        = 5
	DomctlMaxMem               = 11
	DomctlGetHVMContext        = 33
	DomctlDebugOp              = 54
	DomctlGetHVMContextPartial = 55
	DomctlVMEventOp            = 56
	DomctlMonitorOp            = 77
)

// Domctl is struct xen_domctl. U holds the command's own structure.
type Domctl struct {
	Cmd              uint32
	InterfaceVersion uint32
	Domain           uint16
	_                [6]byte
	U                [128]byte
}

// GetDomainInfo is struct xen_domctl_getdomaininfo up to the fields that all
// releases share. Releases differ in what follows, see DomainInfoStride.
type GetDomainInfo struct {
	Domain           uint16
	_                uint16
	Flags            uint32
	TotPages         uint64
	MaxPages         uint64
	OutstandingPages uint64
	SharedPages      uint64
	PagedPages       uint64
	SharedInfoFrame  uint64
	CPUTime          uint64 // nanoseconds
	OnlineVCPUs      uint32
	MaxVCPUID        uint32
	SSIDRef          uint32
	Handle           [16]byte
	CPUPool          uint32
}

// DomainInfoStride returns the distance of two records of
// XEN_SYSCTL_getdomaininfolist for a domctl interface version: the record
// grew in 4.16 (0x14).
func DomainInfoStride(domctlVersion uint32) int {
	if domctlVersion < 0x14 {
		return 104
	}
	return 112
}

// Flags of GetDomainInfo (XEN_DOMINF_*).
const (
	DomInfDying    = 1 << 0
	DomInfHVM      = 1 << 1
	DomInfShutdown = 1 << 2
	DomInfPaused   = 1 << 3
	DomInfBlocked  = 1 << 4
	DomInfRunning  = 1 << 5
	DomInfHAP      = 1 << 8
	// The shutdown reason is 8 bits from DomInfShutdownShift on.
	DomInfShutdownShift = 16
)

// HVMContextPartial is struct xen_domctl_hvmcontext_partial.
type HVMContextPartial struct {
	Type     uint32
	Instance uint32
	BufSize  uint64
	Buffer   uint64 // guest handle
}

// HVMContext is struct xen_domctl_hvmcontext.
type HVMContext struct {
	Size   uint32 // in: of Buffer, out: of the context
	_      uint32
	Buffer uint64 // guest handle; 0 asks for the size
}

// MaxMem is struct xen_domctl_max_mem.
type MaxMem struct {
	MaxMemKB uint64
}

// DebugOp is struct xen_domctl_debug_op.
type DebugOp struct {
	Op   uint32
	VCPU uint32
}

// Operations of DebugOp.
const (
	DebugOpSingleStepOff = 0
	DebugOpSingleStepOn  = 1
)

// VMEventOp is struct xen_domctl_vm_event_op. Out is the port for ENABLE and
// the version for GET_VERSION.
type VMEventOp struct {
	Op   uint32
	Mode uint32
	Out  uint32
}

// Operations and modes of VMEventOp.
const (
	VMEventEnable     = 0
	VMEventDisable    = 1
	VMEventResume     = 2
	VMEventGetVersion = 3

	VMEventModeMonitor = 2
)

// MonitorOp is struct xen_domctl_monitor_op. Event is the event's number, or
// the capability bitmap that GET_CAPABILITIES returns.
type MonitorOp struct {
	Op    uint32
	Event uint32
	U     [16]byte
}

// Operations of MonitorOp.
const (
	MonitorEnable          = 0
	MonitorDisable         = 1
	MonitorGetCapabilities = 2
)

// Events of MonitorOp (XEN_DOMCTL_MONITOR_EVENT_*).
const (
	MonitorWriteCtrlReg       = 0
	MonitorMovToMSR           = 1
	MonitorSingleStep         = 2
	MonitorSoftwareBreakpoint = 3
	MonitorGuestRequest       = 4
	MonitorDebugException     = 5
	MonitorCPUID              = 6
	MonitorInterrupt          = 8
	MonitorDescAccess         = 9
	MonitorEmulUnimplemented  = 10
	MonitorInguestPageFault   = 11
	MonitorVMExit             = 12
)

// MonitorCtrlReg is the mov_to_cr member of MonitorOp's union.
type MonitorCtrlReg struct {
	Index        uint8
	Sync         uint8
	OnChangeOnly uint8
	_            uint8
	_            uint32
	Bitmask      uint64 // bits that are ignored
}

// MonitorMSR is the mov_to_msr member of MonitorOp's union.
type MonitorMSR struct {
	MSR          uint32
	OnChangeOnly uint8
	_            [3]uint8
}

// MonitorRequest is the guest_request member of MonitorOp's union.
type MonitorRequest struct {
	Sync           uint8
	AllowUserspace uint8
}

// MonitorSync is the debug_exception member of MonitorOp's union, and the vmexit
// member.
type MonitorSync struct {
	Sync uint8
}
