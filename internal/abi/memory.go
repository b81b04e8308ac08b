package abi

// memory_op commands (memory.h).
const (
	MemDecreaseReservation = 1
	MemPopulatePhysmap     = 6
	MemMaximumGPFN         = 14
	MemAccessOp            = 21
	MemSharingOp           = 22
)

// Operations of MemSharingFork, and its flags: the last two are of a reset, from
// 4.17 on.
const (
	SharingFork      = 9
	SharingForkReset = 10

	ForkWithIOMMUAllowed = 1 << 0
	ForkBlockInterrupts  = 1 << 1
	ForkResetState       = 1 << 2
	ForkResetMemory      = 1 << 3
)

// MemSharingFork is struct xen_mem_sharing_op with what forks take of it.
type MemSharingFork struct {
	Op     uint8
	Domain uint16
	_      uint32
	Parent uint16
	Flags  uint16
	Pad    uint32
	_      [32]byte
}

// Operations of AccessOp, and the GFN that stands for pages to come.
const (
	AccessOpSet     = 0
	AccessOpGet     = 1
	AccessOpDefault = ^uint64(0)
)

// AccessOp is struct xen_mem_access_op.
type AccessOp struct {
	Op         uint8
	Access     uint8
	DomID      uint16
	Nr         uint32
	PFN        uint64
	PFNList    uint64 // guest handle
	AccessList uint64 // guest handle
}

// Types of resources (XENMEM_resource_*), and what they have of a grant table.
const (
	ResourceGrantTable       = 1
	ResourceGrantTableShared = 0
)

// MemoryReservation is struct xen_memory_reservation. Both operations that
// take it return the number of extents done and 0 for every error.
type MemoryReservation struct {
	ExtentStart uint64 // guest handle of GFNs
	NrExtents   uint64
	ExtentOrder uint32
	MemFlags    uint32
	DomID       uint16
	_           [6]byte
}
