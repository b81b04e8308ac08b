package privcmd

import (
	"unsafe" // Sizeof only

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// cr3Filter makes an operation on the filter of CR3 writes, whose argument is
// a U.
func cr3Filter[U any](c *Conn, dom uint16, op uint32, fill, done func(*U)) error {
	wrap := func(f func(*U)) func(*abi.MonitorCR3Op) {
		if f == nil {
			return nil
		}
		return func(m *abi.MonitorCR3Op) { f(hcbuf.Overlay[U](m.U[:])) }
	}
	return domctlOp(c, abi.DomctlMonitorOp, dom, func(m *abi.MonitorCR3Op) {
		m.Op, m.Event = abi.MonitorOpCR3Filter, op
		if fill != nil {
			wrap(fill)(m)
		}
	}, wrap(done))
}

// CR3FilterQuery returns the filter's version, limits and state. EOPNOTSUPP:
// this Xen has none.
func (c *Conn) CR3FilterQuery(dom uint16) (q abi.CR3Query, err error) {
	err = cr3Filter(c, dom, abi.CR3FilterQuery, nil, func(u *abi.CR3Query) { q = *u })
	return q, err
}

// CR3FilterSet creates, changes or, with mode off, removes the filter.
func (c *Conn) CR3FilterSet(dom uint16, s abi.CR3Set) error {
	return cr3Filter(c, dom, abi.CR3FilterSet, func(u *abi.CR3Set) { *u = s }, nil)
}

// CR3FilterAdd watches one more value.
func (c *Conn) CR3FilterAdd(dom uint16, value uint64) error {
	return cr3Filter(c, dom, abi.CR3FilterAdd, func(u *abi.CR3Entry) { u.Value = value }, nil)
}

// CR3FilterRemove watches one value less.
func (c *Conn) CR3FilterRemove(dom uint16, value uint64) error {
	return cr3Filter(c, dom, abi.CR3FilterRemove, func(u *abi.CR3Entry) { u.Value = value }, nil)
}

// CR3FilterClear watches no value.
func (c *Conn) CR3FilterClear(dom uint16) error {
	return cr3Filter[[0]byte](c, dom, abi.CR3FilterClear, nil, nil)
}

// CR3FilterList returns the values watched. ENOBUFS: there are more than room.
func (c *Conn) CR3FilterList(dom uint16, room int) ([]uint64, error) {
	const size = int(unsafe.Sizeof(uint64(0)))
	buf, err := c.pool.Get(max(room, 1) * size)
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	mem := buf.Bytes(max(room, 1) * size)
	n := 0
	err = cr3Filter(c, dom, abi.CR3FilterList, func(u *abi.CR3List) {
		u.Nr, u.Values = uint32(room), hcbuf.Addr(&mem[0])
	}, func(u *abi.CR3List) { n = int(u.Nr) })
	if err != nil {
		return nil, err
	}
	values := make([]uint64, min(n, room))
	for i := range values {
		values[i] = *hcbuf.Overlay[uint64](mem[i*size:])
	}
	return values, nil
}
