package abi

// Hypercall numbers (xen.h).
const (
	HypercallMemoryOp   = 12
	HypercallMulticall  = 13
	HypercallXenVersion = 17
	HypercallHVMOp      = 34
	HypercallSysctl     = 35
	HypercallDomctl     = 36
)

// Reserved domain numbers (xen.h).
const (
	DomIDSelf    = 0x7ff0
	DomIDInvalid = 0x7ff4
	// DomIDFirstReserved is the first number that no domain can have.
	DomIDFirstReserved = 0x7ff0
)

// xen_version sub-operations (version.h).
const (
	XenVerVersion      = 0
	XenVerExtraVersion = 1 // fills 16 bytes
)

// MulticallEntry is multicall_entry_t (xen.h).
type MulticallEntry struct {
	Op     uint64
	Result int64
	Args   [6]uint64
}
