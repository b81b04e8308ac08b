//go:build lab

package policy_test

import (
	"unsafe" // the argument of an ioctl

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

func (r *raw) domctl(cmd uint32, dom uint16) error {
	buf, err := r.pool.Get(int(unsafe.Sizeof(abi.Domctl{})))
	if err != nil {
		return err
	}
	defer buf.Free()
	d := hcbuf.New[abi.Domctl](buf)
	d.Cmd, d.InterfaceVersion, d.Domain = cmd, r.version, dom
	return r.call(abi.HypercallDomctl, hcbuf.Addr(d))
}

// sysctl is for Xen 4.17.
func (r *raw) sysctl(cmd uint32) error {
	const version417 = 0x15
	buf, err := r.pool.Get(int(unsafe.Sizeof(abi.Sysctl{})))
	if err != nil {
		return err
	}
	defer buf.Free()
	s := hcbuf.New[abi.Sysctl](buf)
	s.Cmd, s.InterfaceVersion = cmd, version417
	return r.call(abi.HypercallSysctl, hcbuf.Addr(s))
}

func (r *raw) xsm(cmd uint32) error {
	buf, err := r.pool.Get(int(unsafe.Sizeof(abi.FlaskOp{})))
	if err != nil {
		return err
	}
	defer buf.Free()
	o := hcbuf.New[abi.FlaskOp](buf)
	o.Cmd, o.InterfaceVersion = cmd, abi.FlaskVersion
	return r.call(abi.HypercallXSMOp, hcbuf.Addr(o))
}

func (r *raw) call(op, arg uint64) error {
	h := &abi.PrivcmdHypercall{Op: op}
	h.Arg[0] = arg
	_, err := r.dev.Ioctl(abi.IoctlPrivcmdHypercall, unsafe.Pointer(h))
	return err
}
