package cr3filter

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/xen"
)

// Mechanism is a way to tell one process from the others.
type Mechanism int

// The mechanisms, the best first.
const (
	// FilteredByXen: Xen reports the CR3 writes that concern watched roots.
	// Needs a Xen with this module's patches.
	FilteredByXen Mechanism = iota + 1
	// FilteredHere: Xen reports all CR3 writes, and the monitor filters them.
	FilteredHere
	// EveryHit: CR3 writes are not looked at. Breakpoints are in place for all
	// processes, and the monitor drops the hits of the others. [Scope] only.
	EveryHit
)

// mechanisms are tried in this order.
var mechanisms = []Mechanism{FilteredByXen, FilteredHere, EveryHit}

func (m Mechanism) String() string {
	switch m {
	case FilteredByXen:
		return "CR3 events filtered by Xen"
	case FilteredHere:
		return "CR3 events filtered in the monitor"
	case EveryHit:
		return "every process's hits"
	}
	return fmt.Sprintf("mechanism %d", int(m))
}

// Monitor is what this package needs of a [xen.Monitor].
type Monitor interface {
	EnableCtrlReg(reg xen.CtrlReg, o *xen.CtrlRegOptions) error
	DisableCtrlReg(reg xen.CtrlReg) error

	CR3Filter() (xen.CR3FilterInfo, error)
	SetCR3Filter(o xen.CR3FilterOptions) error
	AddCR3(value uint64) error
	RemoveCR3(value uint64) error
}

// choose returns the first of the mechanisms that this hypervisor has, and what
// it says of its filter.
func choose(mon Monitor, order []Mechanism) (Mechanism, xen.CR3FilterInfo, error) {
	var why error
	for _, m := range order {
		switch m {
		case FilteredByXen:
			info, err := mon.CR3Filter()
			switch {
			case err == nil:
				return m, info, nil
			case errors.Is(err, xen.ErrNotSupported), errors.Is(err, xen.ErrVersion):
				why = err
			default:
				return 0, info, err
			}
		case FilteredHere, EveryHit:
			return m, xen.CR3FilterInfo{}, nil
		default:
			return 0, xen.CR3FilterInfo{}, fmt.Errorf("%v: %w", m, errors.ErrUnsupported)
		}
	}
	return 0, xen.CR3FilterInfo{}, why
}
