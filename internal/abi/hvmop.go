package abi

// hvm_op commands and parameters (hvm/hvm_op.h, hvm/params.h).
const (
	HVMOpSetParam = 0
	HVMOpGetParam = 1

	HVMParamStorePFN       = 1
	HVMParamStoreEvtchn    = 2
	HVMParamIdentPT        = 12
	HVMParamConsolePFN     = 17
	HVMParamConsoleEvtchn  = 18
	HVMParamMonitorRingPFN = 28
)

// HVMParam is struct xen_hvm_param.
type HVMParam struct {
	DomID uint16
	_     uint16
	Index uint32
	Value uint64
}

// DMOpInjectEvent is a dm_op operation (hvm/dm_op.h).
const DMOpInjectEvent = 13

// DMOp is struct xen_dm_op with the inject_event member of its union.
type DMOp struct {
	Op  uint32
	_   uint32
	Inj InjectEvent
}

// InjectEvent is struct xen_dm_op_inject_event.
type InjectEvent struct {
	VCPU      uint32
	Vector    uint8
	Type      uint8
	InsnLen   uint8
	_         uint8
	ErrorCode uint32
	_         uint32
	CR2       uint64
}

// Event types of InjectEvent (X86_EVENTTYPE_*) and the value for no error
// code.
const (
	EventTypeSoftwareException = 6
	NoErrorCode                = 0xffffffff
)
