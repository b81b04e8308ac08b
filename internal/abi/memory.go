package abi

// memory_op commands (memory.h).
const (
	MemDecreaseReservation = 1
	MemPopulatePhysmap     = 6
	MemMaximumGPFN         = 14
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
