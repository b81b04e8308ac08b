package abi

// memory_op commands (memory.h).
const (
	MemDecreaseReservation = 1
	MemPopulatePhysmap     = 6
	MemMaximumGPFN         = 14
	MemAccessOp            = 21
)

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
