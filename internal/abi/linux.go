package abi

import "unsafe" // for Sizeof only

// The kernel's ioctl encoding with direction _IOC_NONE, which is what the Xen
// devices use.
func ioc(typ, nr uint32, size uintptr) uint32 { return uint32(size)<<16 | typ<<8 | nr }

// ioctls of /dev/xen/privcmd (uapi/xen/privcmd.h).
var (
	IoctlPrivcmdHypercall   = ioc('P', 0, unsafe.Sizeof(PrivcmdHypercall{}))
	IoctlPrivcmdMmapBatchV2 = ioc('P', 4, unsafe.Sizeof(PrivcmdMmapBatchV2{}))
	IoctlPrivcmdDMOp        = ioc('P', 5, unsafe.Sizeof(PrivcmdDMOp{}))
	IoctlPrivcmdResource    = ioc('P', 7, unsafe.Sizeof(PrivcmdResource{}))
)

// ioctls of /dev/xen/evtchn (uapi/xen/evtchn.h).
var (
	IoctlEvtchnBindInterdomain = ioc('E', 1, unsafe.Sizeof(EvtchnBindInterdomain{}))
	IoctlEvtchnBindUnbound     = ioc('E', 2, unsafe.Sizeof(EvtchnBindUnbound{}))
	IoctlEvtchnUnbind          = ioc('E', 3, unsafe.Sizeof(EvtchnPort{}))
	IoctlEvtchnNotify          = ioc('E', 4, unsafe.Sizeof(EvtchnPort{}))
)

// PrivcmdHypercall is struct privcmd_hypercall.
type PrivcmdHypercall struct {
	Op  uint64
	Arg [5]uint64
}

// PrivcmdMmapBatchV2 is struct privcmd_mmapbatch_v2. Unlike hypercall
// arguments its arrays may be ordinary memory; they are unsafe.Pointers so
// that the garbage collector sees them.
type PrivcmdMmapBatchV2 struct {
	Num  uint32
	Dom  uint16
	_    uint16
	Addr uint64         // of the mapping
	Arr  unsafe.Pointer // of Num uint64 GFNs
	Err  unsafe.Pointer // of Num int32 negative errnos
}

// PrivcmdDMOp is struct privcmd_dm_op.
type PrivcmdDMOp struct {
	Dom   uint16
	Num   uint16
	_     uint32
	UBufs unsafe.Pointer // of Num PrivcmdDMOpBuf
}

// PrivcmdDMOpBuf is struct privcmd_dm_op_buf. The kernel pins the memory, so
// it must be ordinary: /dev/xen/hypercall mappings cannot be pinned.
type PrivcmdDMOpBuf struct {
	UPtr unsafe.Pointer
	Size uint64
}

// EvtchnBindInterdomain is struct ioctl_evtchn_bind_interdomain. The ioctl
// returns the local port.
type EvtchnBindInterdomain struct {
	RemoteDomain uint32
	RemotePort   uint32
}

// EvtchnBindUnbound is struct ioctl_evtchn_bind_unbound_port. The ioctl returns
// the local port.
type EvtchnBindUnbound struct {
	RemoteDomain uint32
}

// EvtchnPort is struct ioctl_evtchn_unbind and ioctl_evtchn_notify.
type EvtchnPort struct {
	Port uint32
}

// PrivcmdResource is struct privcmd_mmap_resource.
type PrivcmdResource struct {
	Dom  uint16
	_    uint16
	Type uint32
	ID   uint32
	Idx  uint32
	Num  uint64
	Addr uint64 // of the mapping
}
