package xen

import "fmt"

// DomID is a domain's number. It is unique among live domains only: Xen
// reuses it after the domain's death.
type DomID uint16

// VCPU is the index of a virtual CPU within its domain, counted from 0.
type VCPU uint32

// GFN is a guest frame number: a guest-physical address in units of
// [PageSize].
type GFN uint64

// View is the index of an altp2m view. View 0 is the host p2m.
type View uint16

// Port is an event channel of the calling domain.
type Port uint32

const (
	// PageShift is the base-2 logarithm of [PageSize].
	PageShift = 12
	// PageSize is the size in bytes of a guest frame.
	PageSize = 1 << PageShift
)

func (id DomID) String() string { return fmt.Sprintf("%d", uint16(id)) }
func (g GFN) String() string    { return fmt.Sprintf("%#x", uint64(g)) }
