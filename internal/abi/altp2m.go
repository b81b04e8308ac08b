package abi

// HVMOpAltP2M is the hvm_op command for altp2m, and HVMParamAltP2M the
// parameter that says what a domain may have of it (hvm/hvm_op.h,
// hvm/params.h).
const (
	HVMOpAltP2M    = 25
	HVMParamAltP2M = 35
)

// AltP2MVersion is HVMOP_ALTP2M_INTERFACE_VERSION.
const AltP2MVersion = 1

// Operations of AltP2MOp (HVMOP_altp2m_*).
const (
	AltP2MGetDomainState = 1
	AltP2MSetDomainState = 2
	AltP2MCreate         = 4
	AltP2MDestroy        = 5
	AltP2MSwitch         = 6
	AltP2MSetMemAccess   = 7
	AltP2MChangeGFN      = 8
	AltP2MGetVCPUView    = 14
)

// AltP2MOp is struct xen_hvm_altp2m_op.
type AltP2MOp struct {
	Version uint32
	Cmd     uint32
	Domain  uint16
	_       uint16
	_       uint32
	U       [64]byte
}

// AltP2MState is struct xen_hvm_altp2m_domain_state.
type AltP2MState struct {
	State uint8
}

// AltP2MView is struct xen_hvm_altp2m_view.
type AltP2MView struct {
	View          uint16
	DefaultAccess uint16
}

// AltP2MAccess is struct xen_hvm_altp2m_mem_access.
type AltP2MAccess struct {
	View   uint16
	Access uint16
	_      uint32
	GFN    uint64
}

// AltP2MChange is struct xen_hvm_altp2m_change_gfn.
type AltP2MChange struct {
	View   uint16
	_      uint16
	_      uint32
	OldGFN uint64
	NewGFN uint64 // InvalidGFN takes the change back
}

// AltP2MVCPUView is struct xen_hvm_altp2m_get_vcpu_p2m_idx.
type AltP2MVCPUView struct {
	VCPU uint32
	View uint16
	_    uint16
}

// InvalidGFN is INVALID_GFN.
const InvalidGFN = ^uint64(0)

// Kinds of access (xenmem_access_t, memory.h).
const (
	AccessN     = 0
	AccessR     = 1
	AccessW     = 2
	AccessRW    = 3
	AccessX     = 4
	AccessRX    = 5
	AccessWX    = 6
	AccessRWX   = 7
	AccessRX2RW = 8
	AccessN2RWX = 9
	AccessRPW   = 10 // from 4.20 on
)

// AccessDefault returns XENMEM_access_default, which 4.20 moved without any
// interface version's telling.
func AccessDefault(major, minor int) uint16 {
	if major == 4 && minor < 20 {
		return 10
	}
	return 11
}
