package xenfake

import (
	"maps"
	"slices"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

const (
	cr3Entries = 256 // values that a filter holds
	cr3Width   = 39  // bits of a guest-physical address
)

// cr3Filter is a domain's filter of CR3 writes.
type cr3Filter struct {
	abi.CR3Set
	values             map[uint64]bool
	forwarded, dropped uint64
}

func cr3Valid(bits uint64) bool { return bits>>cr3Width == 0 }

func (x *Xen) cr3FilterOp(d *Domain, m *abi.MonitorCR3Op) syscall.Errno {
	if !x.cfg.CR3Filter || d.cfg.PV {
		return syscall.EOPNOTSUPP
	}
	f := d.cr3Filter
	switch m.Event {
	case abi.CR3FilterQuery:
		x.cr3FilterQuery(d, hcbuf.Overlay[abi.CR3Query](m.U[:]))
		return 0
	case abi.CR3FilterSet:
		if d.ring == nil {
			return syscall.ENXIO
		}
		return x.cr3FilterSet(d, hcbuf.Overlay[abi.CR3Set](m.U[:]))
	}
	if m.Event > abi.CR3FilterClear {
		return syscall.EOPNOTSUPP
	}
	if f == nil {
		return syscall.ENOENT
	}
	value := hcbuf.Overlay[abi.CR3Entry](m.U[:]).Value
	entry := value &^ f.Mask
	switch m.Event {
	case abi.CR3FilterAdd:
		switch {
		case !cr3Valid(value):
			return syscall.EINVAL
		case f.values[entry]:
			return syscall.EEXIST
		case len(f.values) == cr3Entries:
			return syscall.ENOSPC
		}
		f.values[entry] = true
	case abi.CR3FilterRemove:
		switch {
		case !cr3Valid(value):
			return syscall.EINVAL
		case !f.values[entry]:
			return syscall.ENOENT
		}
		delete(f.values, entry)
	case abi.CR3FilterList:
		return x.cr3FilterList(f, m.U[:])
	case abi.CR3FilterClear:
		clear(f.values)
	}
	return 0
}

func (x *Xen) cr3FilterQuery(d *Domain, q *abi.CR3Query) {
	*q = abi.CR3Query{Version: abi.CR3FilterVersion, MaxEntries: cr3Entries}
	if x.cfg.CR3FilterVersion != 0 {
		q.Version = x.cfg.CR3FilterVersion
	}
	if x.cfg.CR3Targets {
		q.SupportedFlags = abi.CR3FilterTargets
	}
	if f := d.cr3Filter; f != nil {
		q.NrEntries = uint32(len(f.values))
		q.Mode, q.Flags, q.Mask, q.Halves = f.Mode, f.Flags, f.Mask, f.Halves
		q.Forwarded, q.Dropped = f.forwarded, f.dropped
	}
}

func (x *Xen) cr3FilterSet(d *Domain, s *abi.CR3Set) syscall.Errno {
	f := d.cr3Filter
	switch s.Mode {
	case abi.CR3FilterOff:
		if *s != (abi.CR3Set{}) {
			return syscall.EINVAL
		}
		d.cr3Filter = nil
		return 0
	case abi.CR3FilterMatch, abi.CR3FilterMember:
	default:
		return syscall.EINVAL
	}
	targets := s.Flags&abi.CR3FilterTargets != 0
	switch {
	case s.Flags&^abi.CR3FilterTargets != 0, !cr3Valid(s.Mask), s.Halves&^s.Mask != 0, s.Halves != 0 && !targets:
		return syscall.EINVAL
	case targets && !x.cfg.CR3Targets:
		return syscall.EOPNOTSUPP
	case f != nil && len(f.values) > 0 && f.Mask != s.Mask:
		return syscall.EBUSY
	}
	if f == nil {
		f = &cr3Filter{values: map[uint64]bool{}}
		d.cr3Filter = f
	}
	f.CR3Set = *s
	return 0
}

func (x *Xen) cr3FilterList(f *cr3Filter, u []byte) syscall.Errno {
	l := hcbuf.Overlay[abi.CR3List](u)
	if *hcbuf.Overlay[uint32](u[4:]) != 0 { // padding
		return syscall.EINVAL
	}
	if int(l.Nr) < len(f.values) {
		return syscall.ENOBUFS
	}
	for i, v := range slices.Sorted(maps.Keys(f.values)) {
		p, errno := at[uint64](x, l.Values+8*uint64(i))
		if errno != 0 {
			return errno
		}
		*p = v
	}
	l.Nr = uint32(len(f.values))
	return 0
}

// pass tells whether a CR3 write makes an event, and counts it.
func (f *cr3Filter) pass(value, old uint64) bool {
	isNew, isOld := f.values[value&^f.Mask], f.values[old&^f.Mask]
	pass := isNew != isOld
	if f.Mode == abi.CR3FilterMatch {
		pass = isNew || isOld
	}
	if pass {
		f.forwarded++
	} else {
		f.dropped++
	}
	return pass
}

// CR3Filter returns the settings and values of the domain's filter.
func (d *Domain) CR3Filter() (set abi.CR3Set, values []uint64, on bool) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	if d.cr3Filter == nil {
		return set, nil, false
	}
	return d.cr3Filter.CR3Set, slices.Sorted(maps.Keys(d.cr3Filter.values)), true
}
