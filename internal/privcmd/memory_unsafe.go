package privcmd

import (
	"errors"
	"syscall"
	"unsafe" // Sizeof, and an ioctl's argument

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// SetAccess sets what the domain may do with nr pages from first on, or, if first
// is abi.AccessOpDefault, with those that it gets later.
func (c *Conn) SetAccess(dom uint16, first uint64, nr uint32, access uint8) error {
	_, err := c.accessOp(abi.AccessOp{Op: abi.AccessOpSet, Access: access, DomID: dom, Nr: nr, PFN: first})
	return err
}

// Access returns what the domain may do with a page. ESRCH: there is none.
func (c *Conn) Access(dom uint16, gfn uint64) (uint8, error) {
	return c.accessOp(abi.AccessOp{Op: abi.AccessOpGet, DomID: dom, PFN: gfn})
}

func (c *Conn) accessOp(a abi.AccessOp) (access uint8, err error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(a)))
	if err != nil {
		return 0, err
	}
	defer buf.Free()
	p := hcbuf.New[abi.AccessOp](buf)
	*p = a
	_, err = c.call(abi.HypercallMemoryOp, abi.MemAccessOp, hcbuf.Addr(p))
	return p.Access, err
}

// Fork makes the domain a copy of its parent, with flags of abi.Fork*.
func (c *Conn) Fork(dom, parent, flags uint16) error {
	return c.sharingOp(abi.MemSharingFork{Op: abi.SharingFork, Domain: dom, Parent: parent, Flags: flags})
}

// ForkReset makes a fork what its parent is.
func (c *Conn) ForkReset(dom, flags uint16) error {
	return c.sharingOp(abi.MemSharingFork{Op: abi.SharingForkReset, Domain: dom, Flags: flags})
}

func (c *Conn) sharingOp(a abi.MemSharingFork) error {
	buf, err := c.pool.Get(int(unsafe.Sizeof(a)))
	if err != nil {
		return err
	}
	defer buf.Free()
	p := hcbuf.New[abi.MemSharingFork](buf)
	*p = a
	_, err = c.call(abi.HypercallMemoryOp, abi.MemSharingOp, hcbuf.Addr(p))
	return err
}

// MapResource maps n frames of a resource of the domain, read only. The caller
// ends with Unmap.
func (c *Conn) MapResource(dom uint16, typ, id, first uint32, n int) ([]byte, error) {
	if n <= 0 {
		return nil, syscall.EINVAL
	}
	mem, err := c.dev.Map(n*abi.PageSize, false)
	if err != nil {
		return nil, err
	}
	arg := &abi.PrivcmdResource{Dom: dom, Type: typ, ID: id, Idx: first, Num: uint64(n), Addr: hcbuf.Addr(&mem[0])}
	if _, err := c.ioctl(abi.IoctlPrivcmdResource, unsafe.Pointer(arg)); err != nil {
		return nil, errors.Join(c.denied(err), c.dev.Unmap(mem))
	}
	return mem, nil
}

// Context returns the domain's whole HVM context, for which it is paused.
func (c *Conn) Context(dom uint16) ([]byte, error) {
	size := 0
	ask := func(mem []byte) error {
		return domctlOp(c, abi.DomctlGetHVMContext, dom, func(u *abi.HVMContext) {
			if u.Size = uint32(len(mem)); len(mem) > 0 {
				u.Buffer = hcbuf.Addr(&mem[0])
			}
		}, func(u *abi.HVMContext) { size = int(u.Size) })
	}
	return c.sized(ask, &size)
}

// ContextRecord returns a record of the domain's HVM context, without its
// descriptor.
func (c *Conn) ContextRecord(dom uint16, typ, instance uint32) ([]byte, error) {
	size := 0
	ask := func(mem []byte) error {
		return domctlOp(c, abi.DomctlGetHVMContextPartial, dom, func(u *abi.HVMContextPartial) {
			u.Type, u.Instance, u.BufSize = typ, instance, uint64(len(mem))
			if len(mem) > 0 {
				u.Buffer = hcbuf.Addr(&mem[0])
			}
		}, func(u *abi.HVMContextPartial) { size = int(min(u.BufSize, maxContext+1)) })
	}
	return c.sized(ask, &size)
}

// maxContext bounds a context: 1024 vCPUs need some 8 MiB.
const maxContext = 64 << 20

// sized asks for the size of something, which ask stores in size, and then for
// the thing itself.
func (c *Conn) sized(ask func(mem []byte) error, size *int) ([]byte, error) {
	if err := ask(nil); err != nil {
		return nil, err
	}
	if *size <= 0 || *size > maxContext {
		return nil, syscall.E2BIG
	}
	buf, err := c.pool.Get(*size)
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	mem := buf.Bytes(*size)
	if err := ask(mem); err != nil {
		return nil, err
	}
	return append([]byte(nil), mem[:min(*size, len(mem))]...), nil
}
