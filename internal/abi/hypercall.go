package abi

// Hypercall numbers (xen.h).
const (
	HypercallMemoryOp   = 12
	HypercallMulticall  = 13
	HypercallXenVersion = 17
	HypercallXSMOp      = 27
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

// xen_version sub-operations (version.h), and how many bytes they fill with
// text.
const (
	XenVerVersion      = 0
	XenVerExtraVersion = 1 // ExtraVersionSize
	XenVerCompileInfo  = 2 // CompileInfo
	XenVerChangeset    = 4 // ChangesetSize
	XenVerCommandLine  = 9 // CommandLineSize

	ExtraVersionSize = 16
	ChangesetSize    = 64
	CommandLineSize  = 1024
)

// CompileInfo is struct xen_compile_info.
type CompileInfo struct {
	Compiler [64]byte
	By       [16]byte
	Domain   [32]byte
	Date     [32]byte
}

// FlaskGetEnforce is an operation of FlaskOp, and FlaskVersion the interface's
// version (xsm/flask_op.h).
const (
	FlaskVersion    = 1
	FlaskGetEnforce = 2
)

// FlaskOp is struct xen_flask_op, the xsm_op of FLASK.
type FlaskOp struct {
	Cmd              uint32
	InterfaceVersion uint32
	U                [32]byte
}

// MulticallEntry is multicall_entry_t (xen.h).
type MulticallEntry struct {
	Op     uint64
	Result int64
	Args   [6]uint64
}
