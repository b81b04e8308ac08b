package xen

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// CR3FilterMode says which CR3 writes a filter lets pass.
type CR3FilterMode uint32

// The modes (XEN_DOMCTL_MONITOR_CR3_MODE_*).
const (
	// CR3FilterOff: no filter, all CR3 writes make events.
	CR3FilterOff CR3FilterMode = abi.CR3FilterOff
	// CR3FilterMatch: those whose old or new value is watched.
	CR3FilterMatch CR3FilterMode = abi.CR3FilterMatch
	// CR3FilterMember: those of whose old and new value just one is watched,
	// that is when the vCPU enters or leaves the watched set.
	CR3FilterMember CR3FilterMode = abi.CR3FilterMember
)

// CR3FilterOptions are the settings of a filter of CR3 writes; the zero value
// is no filter.
type CR3FilterOptions struct {
	Mode CR3FilterMode
	// Mask are the bits to ignore, in watched values and in the guest's: 0xfff
	// with PCIDs, 0x1fff for Linux with KPTI. A mask that is too wide merges
	// processes.
	Mask uint64
	// TargetList saves VM exits: the guest switches between the two roots of
	// one address space (KPTI) without any, thanks to VMX's CR3-target list.
	// Those are writes that make no event anyway. It must be available, see
	// [CR3FilterInfo].
	TargetList bool
	// Halves are, with TargetList, the bits in which the two roots differ,
	// part of Mask: 0x1800 for Linux with KPTI, 0 if there is one root only.
	Halves uint64
}

// CR3FilterInfo is a filter's state.
type CR3FilterInfo struct {
	Version             uint32 // of the patched interface
	MaxEntries          int    // values that a filter can watch
	Entries             int    // values that it watches
	TargetListAvailable bool   // for this domain
	CR3FilterOptions           // its settings; Mode is CR3FilterOff without one
	// Intercepted CR3 writes since the filter was made, of all vCPUs: those
	// that made events, and those that did not.
	Forwarded, Dropped uint64
}

// cr3Filter is what a monitor knows of its filter.
type cr3Filter struct {
	probed bool // the interface's version is ours
	max    int  // values that fit
	set    bool // there may be a filter
}

// CR3Filter asks for the state of the filter of CR3 writes, which need not be
// set. A Xen has it if it is built with the patches in this module's
// patches/xen; on any other the error matches [ErrNotSupported]. One with
// another version of them is [ErrVersion], with nothing but Version known.
func (m *Monitor) CR3Filter() (CR3FilterInfo, error) { return m.events.queryCR3Filter() }

// SetCR3Filter makes, changes or (mode [CR3FilterOff]) removes the filter,
// which decides within Xen what CR3 writes make events. A new filter watches
// nothing, so that no CR3 write makes an event; a changed one keeps its values.
// It does not enable the events: [Monitor.EnableCtrlReg] does, before or after.
//
// The filter ends with [Monitor.DisableCtrlReg] for CR3, with the monitor, even
// one that was killed once its ring is disabled, and with the domain. Another
// Mask while values are watched is [ErrBusy]; TargetList where it is not
// available is [ErrNotSupported]. Xen errors as for [Monitor.CR3Filter].
func (m *Monitor) SetCR3Filter(o CR3FilterOptions) error { return m.events.setCR3Filter(o) }

// AddCR3 watches one more page-table root, whose ignored bits may have any
// value. The errors match [ErrExists] if it is watched already, [ErrNoSpace] if
// there are as many as fit, [ErrNotFound] without a filter.
func (m *Monitor) AddCR3(value uint64) error {
	return m.events.changeCR3Filter("add", m.dom.hyp.conn.CR3FilterAdd, value)
}

// RemoveCR3 watches a page-table root no more. The error matches [ErrNotFound]
// if it is not watched or there is no filter.
func (m *Monitor) RemoveCR3(value uint64) error {
	return m.events.changeCR3Filter("remove", m.dom.hyp.conn.CR3FilterRemove, value)
}

// CR3Values returns the values watched, in no particular order and with their
// ignored bits clear. The error matches [ErrNotFound] without a filter.
func (m *Monitor) CR3Values() ([]uint64, error) {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	return m.events.cr3Values()
}

// ClearCR3 watches nothing, so that no CR3 write makes an event. The error
// matches [ErrNotFound] without a filter.
func (m *Monitor) ClearCR3() error {
	clear := func(dom uint16, _ uint64) error { return m.dom.hyp.conn.CR3FilterClear(dom) }
	return m.events.changeCR3Filter("clear", clear, 0)
}

func (e *events) queryCR3Filter() (CR3FilterInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cr3FilterInfo()
}

func (e *events) cr3FilterInfo() (CR3FilterInfo, error) {
	info, err := e.dom.CR3Filter()
	if err == nil {
		const sane = 1 << 16 // values, and their memory with them
		e.filter.probed, e.filter.max = true, min(info.MaxEntries, sane)
	}
	return info, err
}

// CR3Filter asks for the state of the domain's filter of CR3 writes as
// [Monitor.CR3Filter] does; the domain need not be monitored for that.
func (d *Domain) CR3Filter() (CR3FilterInfo, error) {
	q, err := d.hyp.conn.CR3FilterQuery(uint16(d.id))
	if err != nil {
		advice := ""
		if errors.Is(err, syscall.EOPNOTSUPP) {
			advice = "this Xen has no filter of CR3 writes: build one with patches/xen, or filter in the monitor"
		}
		return CR3FilterInfo{}, d.fail("query CR3 filter", err, advice)
	}
	if q.Version != abi.CR3FilterVersion {
		return CR3FilterInfo{Version: q.Version}, fault("query CR3 filter", d.id, ErrVersion, fmt.Sprintf(
			"this Xen has version %d of the filter of CR3 writes, this program knows %d: use patches/xen of this program's release",
			q.Version, abi.CR3FilterVersion))
	}
	return CR3FilterInfo{
		Version:             q.Version,
		MaxEntries:          int(q.MaxEntries),
		Entries:             int(q.NrEntries),
		TargetListAvailable: q.SupportedFlags&abi.CR3FilterTargets != 0,
		CR3FilterOptions: CR3FilterOptions{
			Mode:       CR3FilterMode(q.Mode),
			Mask:       q.Mask,
			TargetList: q.Flags&abi.CR3FilterTargets != 0,
			Halves:     q.Halves,
		},
		Forwarded: q.Forwarded,
		Dropped:   q.Dropped,
	}, nil
}

// probeCR3Filter makes sure, once, that this Xen's filter is the one that this
// package knows.
func (e *events) probeCR3Filter() error {
	if e.filter.probed {
		return nil
	}
	_, err := e.cr3FilterInfo()
	return err
}

func (e *events) setCR3Filter(o CR3FilterOptions) error {
	const op = "set CR3 filter"
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	if err := e.probeCR3Filter(); err != nil {
		return err
	}
	s := abi.CR3Set{Mode: uint32(o.Mode), Mask: o.Mask, Halves: o.Halves}
	if o.TargetList {
		s.Flags = abi.CR3FilterTargets
	}
	err := e.dom.hyp.conn.CR3FilterSet(uint16(e.dom.id), s)
	if err != nil {
		advice := ""
		switch {
		case errors.Is(err, syscall.EOPNOTSUPP):
			advice = "the CR3-target list is not available for this domain (needs VMX and no nested virtualization): do without TargetList"
		case errors.Is(err, syscall.EBUSY):
			advice = "the mask cannot change while values are watched: ClearCR3 first"
		case errors.Is(err, syscall.EINVAL):
			advice = fmt.Sprintf("mode %d, mask %#x and halves %#x do not fit together or not this guest's CR3", o.Mode, o.Mask, o.Halves)
		case errors.Is(err, syscall.ENOMEM):
			advice = "Xen has no memory for it: free some of the host's"
		}
		return e.dom.fail(op, err, advice)
	}
	e.filter.set = o.Mode != CR3FilterOff
	return nil
}

func (e *events) changeCR3Filter(name string, change func(dom uint16, value uint64) error, value uint64) error {
	op := name + " watched CR3"
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	if err := e.probeCR3Filter(); err != nil {
		return err
	}
	err := change(uint16(e.dom.id), value)
	advice := ""
	switch {
	case errors.Is(err, syscall.ENOENT) && !e.filter.set:
		advice = "there is no filter: SetCR3Filter first"
	case errors.Is(err, syscall.ENOENT):
		advice = fmt.Sprintf("%#x is not watched", value)
	case errors.Is(err, syscall.EEXIST):
		advice = fmt.Sprintf("%#x is watched already", value)
	case errors.Is(err, syscall.ENOSPC):
		advice = fmt.Sprintf("the filter is full, it holds %d values: remove some", e.filter.max)
	case errors.Is(err, syscall.EINVAL):
		advice = fmt.Sprintf("%#x cannot be in this guest's CR3", value)
	}
	return e.dom.fail(op, err, advice)
}

func (e *events) cr3Values() ([]uint64, error) {
	const op = "list watched CR3"
	if err := e.open(op); err != nil {
		return nil, err
	}
	if err := e.probeCR3Filter(); err != nil {
		return nil, err
	}
	values, err := e.dom.hyp.conn.CR3FilterList(uint16(e.dom.id), e.filter.max)
	advice := ""
	if errors.Is(err, syscall.ENOENT) {
		advice = "there is no filter: SetCR3Filter first"
	}
	return values, e.dom.fail(op, err, advice)
}

// saveCR3Filter returns what makes the filter anew when the CR3 events, and
// the filter with them, have been turned off.
func (e *events) saveCR3Filter() (restore func() error, err error) {
	if !e.filter.set {
		return func() error { return nil }, nil
	}
	info, err := e.cr3FilterInfo()
	if err != nil {
		return nil, err
	}
	values, err := e.cr3Values()
	if err != nil {
		return nil, err
	}
	return func() error {
		conn, id := e.dom.hyp.conn, uint16(e.dom.id)
		s := abi.CR3Set{Mode: uint32(info.Mode), Mask: info.Mask, Halves: info.Halves}
		if info.TargetList {
			s.Flags = abi.CR3FilterTargets
		}
		if err := conn.CR3FilterSet(id, s); err != nil {
			return e.dom.fail("restore CR3 filter", err, "")
		}
		e.filter.set = true
		for _, v := range values {
			if err := conn.CR3FilterAdd(id, v); err != nil {
				return e.dom.fail("restore CR3 filter", err, "")
			}
		}
		return nil
	}, nil
}
