package abi

// XEN_SYSCTL_INTERFACE_VERSION from 4.14 to 4.22.
const (
	SysctlVersionMin = 0x13
	SysctlVersionMax = 0x16
)

// SysctlGetDomainInfoList is a sysctl command (sysctl.h).
const SysctlGetDomainInfoList = 6

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
