// Package privcmd is the choke point for hypercalls and foreign memory: typed
// calls on /dev/xen/privcmd, with hypercall arguments laid out in memory that
// Xen may dereference.
package privcmd

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe" // ioctl arguments

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/hcbuf"
)

// Conn is a connection to the hypervisor. Its methods may be called from
// several goroutines. Errors wrap a syscall.Errno, whose numbers are Xen's.
type Conn struct {
	dev    device.File
	pool   *hcbuf.Pool
	ioctls atomic.Uint64
	pace   device.Pace

	domctl uint32 // negotiated interface version
}

// New returns a connection over two open devices, which it owns from then on.
func New(privcmd, hypercall device.File) *Conn {
	return &Conn{dev: privcmd, pool: hcbuf.NewPool(hypercall)}
}

// Ioctls returns the number of ioctls made so far.
func (c *Conn) Ioctls() uint64 { return c.ioctls.Load() }

// Close closes both devices. Nobody may use the connection or what was mapped
// through it any more.
func (c *Conn) Close() error {
	return errors.Join(c.pool.Close(), c.dev.Close())
}

func (c *Conn) ioctl(req uint32, arg unsafe.Pointer) (int, error) {
	c.ioctls.Add(1)
	c.pace.Step()
	n, err := c.dev.Ioctl(req, arg)
	runtime.KeepAlive(arg)
	return n, err
}

// call makes a hypercall, as send does, and tells what EACCES means.
func (c *Conn) call(op uint64, args ...uint64) (int, error) {
	n, err := c.send(op, args...)
	return n, c.denied(err)
}

// send makes a hypercall. Arguments that are addresses must lie in memory from
// c.pool. The kernel truncates the result to 32 bits.
func (c *Conn) send(op uint64, args ...uint64) (int, error) {
	h := &abi.PrivcmdHypercall{Op: op}
	copy(h.Arg[:], args)
	return c.ioctl(abi.IoctlPrivcmdHypercall, unsafe.Pointer(h))
}

// XenVersion returns the release's numbers.
func (c *Conn) XenVersion() (major, minor int, err error) {
	n, err := c.send(abi.HypercallXenVersion, abi.XenVerVersion, 0)
	return n >> 16, n & 0xffff, err
}

// domctlOp makes a domctl, as sendDomctl does, and tells what EACCES means.
func domctlOp[U any](c *Conn, cmd uint32, dom uint16, fill, done func(*U)) error {
	return c.denied(sendDomctl(c, cmd, dom, fill, done))
}

// sendDomctl makes a domctl whose argument is a U. fill and done see the
// argument before and after the call, done only on success; either may be nil.
func sendDomctl[U any](c *Conn, cmd uint32, dom uint16, fill, done func(*U)) error {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.Domctl{})))
	if err != nil {
		return err
	}
	defer buf.Free()
	d := hcbuf.New[abi.Domctl](buf)
	d.Cmd, d.InterfaceVersion, d.Domain = cmd, c.domctl, dom
	u := hcbuf.Overlay[U](d.U[:])
	if fill != nil {
		fill(u)
	}
	if _, err := c.send(abi.HypercallDomctl, hcbuf.Addr(d)); err != nil {
		return err
	}
	if done != nil {
		done(u)
	}
	return nil
}

// NegotiateDomctl finds the domctl version, trying first the one that belongs
// to the release. It asks for the information of a domain that cannot exist:
// a wrong version is EACCES, the right one another error. A version newer than
// the known ones is returned together with ErrVersion.
func (c *Conn) NegotiateDomctl(major, minor int) (uint32, error) {
	try := make([]uint32, 0, abi.DomctlVersionMax-abi.DomctlVersionMin+2)
	if v := abi.DomctlVersion(major, minor); v != 0 {
		try = append(try, v)
	}
	for v := uint32(abi.DomctlVersionMin); v <= abi.DomctlVersionMax; v++ {
		try = append(try, v)
	}
	for _, v := range try {
		c.domctl = v
		err := c.probeDomctl()
		switch {
		case errors.Is(err, syscall.EACCES):
			continue
		case err == nil, errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.EINVAL):
			if v > abi.DomctlVersionKnown {
				c.domctl = 0
				return v, ErrVersion
			}
			return v, nil
		}
		c.domctl = 0
		return 0, err
	}
	c.domctl = 0
	return 0, ErrVersion
}

// DomctlVersion returns what NegotiateDomctl found.
func (c *Conn) DomctlVersion() uint32 { return c.domctl }

// NegotiateSysctl finds the sysctl version by asking for a list of no
// domains.
func (c *Conn) NegotiateSysctl() (uint32, error) {
	for v := uint32(abi.SysctlVersionMin); v <= abi.SysctlVersionMax; v++ {
		_, err := c.domainInfoList(v, 0, 0, nil)
		if errors.Is(err, syscall.EACCES) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return v, nil
	}
	return 0, ErrVersion
}

// DomainInfoList returns the information of up to limit domains whose numbers
// are first or more, in the order of their numbers.
func (c *Conn) DomainInfoList(sysctlVersion uint32, first uint16, limit int) ([]abi.GetDomainInfo, error) {
	stride := abi.DomainInfoStride(c.domctl)
	buf, err := c.pool.Get(stride * limit)
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	mem := buf.Bytes(stride * limit)
	n, err := c.domainInfoList(sysctlVersion, first, uint32(limit), mem)
	if err != nil {
		return nil, c.denied(err)
	}
	if int(n) > limit {
		return nil, fmt.Errorf("sysctl returned %d domains, limit %d", n, limit)
	}
	list := make([]abi.GetDomainInfo, n)
	for i := range list {
		list[i] = *hcbuf.Overlay[abi.GetDomainInfo](mem[i*stride:])
	}
	return list, nil
}

func (c *Conn) domainInfoList(version uint32, first uint16, limit uint32, mem []byte) (uint32, error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.Sysctl{})))
	if err != nil {
		return 0, err
	}
	defer buf.Free()
	s := hcbuf.New[abi.Sysctl](buf)
	s.Cmd, s.InterfaceVersion = abi.SysctlGetDomainInfoList, version
	u := hcbuf.Overlay[abi.GetDomainInfoList](s.U[:])
	u.FirstDomain, u.MaxDomains = first, limit
	if len(mem) > 0 {
		u.Buffer = hcbuf.Addr(&mem[0])
	}
	_, err = c.send(abi.HypercallSysctl, hcbuf.Addr(s))
	return u.NumDomains, err
}

// DomainInfo returns the information of dom, or ESRCH. Up to 4.17 Xen answers
// with the next domain if there is no such one; that is ESRCH here.
func (c *Conn) DomainInfo(dom uint16) (info abi.GetDomainInfo, err error) {
	if dom >= abi.DomIDFirstReserved {
		return info, syscall.ESRCH
	}
	err = domctlOp(c, abi.DomctlGetDomainInfo, dom, nil, func(u *abi.GetDomainInfo) { info = *u })
	if err == nil && info.Domain != dom {
		err = syscall.ESRCH
	}
	return info, err
}

// PauseDomain raises the domain's pause count and returns when its vCPUs
// stand still.
func (c *Conn) PauseDomain(dom uint16) error {
	return domctlOp[[0]byte](c, abi.DomctlPauseDomain, dom, nil, nil)
}

// UnpauseDomain lowers the domain's pause count.
func (c *Conn) UnpauseDomain(dom uint16) error {
	return domctlOp[[0]byte](c, abi.DomctlUnpauseDomain, dom, nil, nil)
}

// CPUContext returns a vCPU's HVM context record.
func (c *Conn) CPUContext(dom uint16, vcpu uint32) (*abi.HVMHWCPU, error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.HVMHWCPU{})))
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	rec := hcbuf.New[abi.HVMHWCPU](buf)
	err = domctlOp(c, abi.DomctlGetHVMContextPartial, dom, func(u *abi.HVMContextPartial) {
		u.Type, u.Instance = abi.HVMSaveCPU, vcpu
		u.BufSize, u.Buffer = uint64(unsafe.Sizeof(*rec)), hcbuf.Addr(rec)
	}, nil)
	if err != nil {
		return nil, err
	}
	cpu := *rec
	return &cpu, nil
}

// VMEvent makes a vm_event operation on the monitor ring and returns its
// output. Any operation but GET_VERSION on DOMID_INVALID crashes the host on
// many releases, so it is refused here.
func (c *Conn) VMEvent(dom uint16, op uint32) (out uint32, err error) {
	if dom >= abi.DomIDFirstReserved && (op != abi.VMEventGetVersion || dom != abi.DomIDInvalid) {
		return 0, syscall.ESRCH
	}
	err = domctlOp(c, abi.DomctlVMEventOp, dom,
		func(u *abi.VMEventOp) { u.Op, u.Mode = op, abi.VMEventModeMonitor },
		func(u *abi.VMEventOp) { out = u.Out })
	return out, err
}

// Monitor makes a monitor operation without parameters and returns the event
// field, which GET_CAPABILITIES fills.
func (c *Conn) Monitor(dom uint16, op, event uint32) (out uint32, err error) {
	err = domctlOp(c, abi.DomctlMonitorOp, dom,
		func(u *abi.MonitorOp) { u.Op, u.Event = op, event },
		func(u *abi.MonitorOp) { out = u.Event })
	return out, err
}

// MonitorEvent makes a monitor operation on an event with its options.
func MonitorEvent[O any](c *Conn, dom uint16, op, event uint32, o O) error {
	return domctlOp(c, abi.DomctlMonitorOp, dom, func(u *abi.MonitorOp) {
		u.Op, u.Event = op, event
		*hcbuf.Overlay[O](u.U[:]) = o
	}, nil)
}

// SingleStep sets whether a vCPU traps after each instruction. EOPNOTSUPP: the
// processor cannot.
func (c *Conn) SingleStep(dom uint16, vcpu uint32, on bool) error {
	return domctlOp(c, abi.DomctlDebugOp, dom, func(u *abi.DebugOp) {
		u.Op, u.VCPU = abi.DebugOpSingleStepOff, vcpu
		if on {
			u.Op = abi.DebugOpSingleStepOn
		}
	}, nil)
}

// MaxMem sets how much memory, in KiB, the domain may have.
func (c *Conn) MaxMem(dom uint16, kb uint64) error {
	return domctlOp(c, abi.DomctlMaxMem, dom, func(u *abi.MaxMem) { u.MaxMemKB = kb }, nil)
}

// HVMParam returns an HVM parameter of the domain.
func (c *Conn) HVMParam(dom uint16, index uint32) (uint64, error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.HVMParam{})))
	if err != nil {
		return 0, err
	}
	defer buf.Free()
	p := hcbuf.New[abi.HVMParam](buf)
	p.DomID, p.Index = dom, index
	if _, err := c.call(abi.HypercallHVMOp, abi.HVMOpGetParam, hcbuf.Addr(p)); err != nil {
		return 0, err
	}
	return p.Value, nil
}

// MaximumGPFN returns the highest frame number of the domain. The call goes
// through a multicall, whose result is not truncated to 32 bits.
func (c *Conn) MaximumGPFN(dom uint16) (uint64, error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.MulticallEntry{})) + 8)
	if err != nil {
		return 0, err
	}
	defer buf.Free()
	e := hcbuf.New[abi.MulticallEntry](buf)
	arg := hcbuf.New[uint16](buf)
	*arg = dom
	e.Op = abi.HypercallMemoryOp
	e.Args[0], e.Args[1] = abi.MemMaximumGPFN, hcbuf.Addr(arg)
	if _, err := c.call(abi.HypercallMulticall, hcbuf.Addr(e), 1); err != nil {
		return 0, err
	}
	if e.Result < 0 {
		return 0, c.denied(syscall.Errno(-e.Result))
	}
	return uint64(e.Result), nil
}

// PopulateFrame gives the domain a page at gfn. Its content is arbitrary. Xen
// tells no reason for a failure; that is ENOMEM here.
func (c *Conn) PopulateFrame(dom uint16, gfn uint64) error {
	return c.reservation(abi.MemPopulatePhysmap, dom, gfn)
}

// RemoveFrame takes the page at gfn from the domain. Mappings of it stay
// valid. Xen tells no reason for a failure; that is ENOMEM here.
func (c *Conn) RemoveFrame(dom uint16, gfn uint64) error {
	return c.reservation(abi.MemDecreaseReservation, dom, gfn)
}

func (c *Conn) reservation(cmd uint64, dom uint16, gfn uint64) error {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.MemoryReservation{})) + 8)
	if err != nil {
		return err
	}
	defer buf.Free()
	r := hcbuf.New[abi.MemoryReservation](buf)
	p := hcbuf.New[uint64](buf)
	*p = gfn
	r.ExtentStart, r.NrExtents, r.DomID = hcbuf.Addr(p), 1, dom
	n, err := c.call(abi.HypercallMemoryOp, cmd, hcbuf.Addr(r))
	if err != nil {
		return err
	}
	if n != 1 {
		return syscall.ENOMEM
	}
	return nil
}

// MapFrames maps the frames of dom into one contiguous mapping. errs gets a number
// for each frame, zero if it is there and else a negative errno; touching the memory
// of a failed frame is a fatal SIGBUS. The caller ends with Unmap.
func MapFrames[G ~uint64](c *Conn, dom uint16, gfns []G, errs []int32, writable bool) (mem []byte, err error) {
	if len(gfns) == 0 || len(errs) < len(gfns) {
		return nil, syscall.EINVAL
	}
	mem, err = c.dev.Map(len(gfns)*abi.PageSize, writable)
	if err != nil {
		return nil, err
	}
	arg := &abi.PrivcmdMmapBatchV2{
		Num:  uint32(len(gfns)),
		Dom:  dom,
		Addr: hcbuf.Addr(&mem[0]),
		Arr:  unsafe.Pointer(&gfns[0]),
		Err:  unsafe.Pointer(&errs[0]),
	}
	_, err = c.ioctl(abi.IoctlPrivcmdMmapBatchV2, unsafe.Pointer(arg))
	if err != nil && !errors.Is(err, syscall.ENOENT) { // ENOENT: look at the frames
		return nil, errors.Join(err, c.dev.Unmap(mem))
	}
	return mem, nil
}

// Unmap ends a mapping of MapFrames.
func (c *Conn) Unmap(mem []byte) error { return c.dev.Unmap(mem) }

// InjectEvent makes the vCPU take an event when it next runs. EBUSY: one is
// waiting already.
func (c *Conn) InjectEvent(dom uint16, ev abi.InjectEvent) error {
	// Ordinary memory: the kernel pins it, which hypercall memory forbids.
	op := &abi.DMOp{Op: abi.DMOpInjectEvent, Inj: ev}
	buf := &abi.PrivcmdDMOpBuf{UPtr: unsafe.Pointer(op), Size: uint64(unsafe.Sizeof(*op))}
	arg := &abi.PrivcmdDMOp{Dom: dom, Num: 1, UBufs: unsafe.Pointer(buf)}
	_, err := c.ioctl(abi.IoctlPrivcmdDMOp, unsafe.Pointer(arg))
	return c.denied(err)
}
