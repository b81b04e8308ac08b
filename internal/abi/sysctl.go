package abi

// XEN_SYSCTL_INTERFACE_VERSION from 4.14 to 4.22.
const (
	SysctlVersionMin = 0x13
	SysctlVersionMax = 0x16
)

// Sysctl commands (sysctl.h).
const (
	SysctlReadConsole       = 1
	SysctlPhysInfo          = 3
	SysctlGetDomainInfoList = 6
)

// Sysctl is struct xen_sysctl.
type Sysctl struct {
	Cmd              uint32
	InterfaceVersion uint32
	U                [128]byte
}

// GetDomainInfoList is struct xen_sysctl_getdomaininfolist.
type GetDomainInfoList struct {
	FirstDomain uint16
	_           uint16
	MaxDomains  uint32
	Buffer      uint64 // guest handle
	NumDomains  uint32 // out
	_           uint32
}

// PhysInfoHead is the start of struct xen_sysctl_physinfo, the same in all
// releases.
type PhysInfoHead struct {
	ThreadsPerCore uint32
	CoresPerSocket uint32
	CPUs           uint32
	MaxCPUID       uint32
	Nodes          uint32
	MaxNodeID      uint32
	CPUKHz         uint32
	Capabilities   uint32
}

// PhysInfoTail is the rest. HWCap are words of the processor's feature bits, in
// the order of CPUID leaf 1 EDX and ECX, then leaf 0x80000001 EDX and ECX.
type PhysInfoTail struct {
	TotalPages       uint64
	FreePages        uint64
	ScrubPages       uint64
	OutstandingPages uint64
	MaxMFN           uint64
	HWCap            [8]uint32
}

// PhysInfo414 is struct xen_sysctl_physinfo up to sysctl version 0x14 (4.16).
type PhysInfo414 struct {
	PhysInfoHead
	PhysInfoTail
}

// PhysInfo417 is struct xen_sysctl_physinfo from sysctl version 0x15 (4.17) on.
type PhysInfo417 struct {
	PhysInfoHead
	ArchCapabilities uint32
	_                uint32
	PhysInfoTail
}

// SysctlPhysInfo417 is the first version that has PhysInfo417.
const SysctlPhysInfo417 = 0x15

// Capabilities of PhysInfoHead (XEN_SYSCTL_PHYSCAP_*).
const (
	PhysCapHVM     = 1 << 0
	PhysCapHAP     = 1 << 3
	PhysCapShadow  = 1 << 4
	PhysCapVMTrace = 1 << 6 // from 4.15 on
)

// Feature bits in PhysInfoTail: word and mask.
const (
	HWCapVMXWord = 1
	HWCapVMX     = 1 << 5
	HWCapSVMWord = 3
	HWCapSVM     = 1 << 2
)

// ReadConsole is struct xen_sysctl_readconsole.
type ReadConsole struct {
	Clear       uint8
	Incremental uint8
	_           [2]uint8
	Index       uint32
	Buffer      uint64 // guest handle
	Count       uint32 // in: room, out: bytes
	_           uint32
}
