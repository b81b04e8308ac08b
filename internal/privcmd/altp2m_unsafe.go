package privcmd

import (
	"unsafe" // Sizeof only

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// altp2mOp makes an altp2m operation whose argument is a U.
func altp2mOp[U any](c *Conn, dom uint16, cmd uint32, fill, done func(*U)) error {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.AltP2MOp{})))
	if err != nil {
		return err
	}
	defer buf.Free()
	a := hcbuf.New[abi.AltP2MOp](buf)
	a.Version, a.Cmd, a.Domain = abi.AltP2MVersion, cmd, dom
	u := hcbuf.Overlay[U](a.U[:])
	fill(u)
	if _, err := c.call(abi.HypercallHVMOp, abi.HVMOpAltP2M, hcbuf.Addr(a)); err != nil {
		return err
	}
	if done != nil {
		done(u)
	}
	return nil
}

// AltP2MState tells whether altp2m is active.
func (c *Conn) AltP2MState(dom uint16) (on bool, err error) {
	err = altp2mOp(c, dom, abi.AltP2MGetDomainState,
		func(*abi.AltP2MState) {}, func(u *abi.AltP2MState) { on = u.State != 0 })
	return on, err
}

// SetAltP2MState turns altp2m on, or off with all views.
func (c *Conn) SetAltP2MState(dom uint16, on bool) error {
	return altp2mOp(c, dom, abi.AltP2MSetDomainState, func(u *abi.AltP2MState) {
		if on {
			u.State = 1
		}
	}, nil)
}

// CreateView makes an altp2m view with the default access given.
func (c *Conn) CreateView(dom, access uint16) (view uint16, err error) {
	err = altp2mOp(c, dom, abi.AltP2MCreate,
		func(u *abi.AltP2MView) { u.DefaultAccess = access },
		func(u *abi.AltP2MView) { view = u.View })
	return view, err
}

// DestroyView removes a view.
func (c *Conn) DestroyView(dom, view uint16) error {
	return altp2mOp(c, dom, abi.AltP2MDestroy, func(u *abi.AltP2MView) { u.View = view }, nil)
}

// SwitchView switches all vCPUs to a view.
func (c *Conn) SwitchView(dom, view uint16) error {
	return altp2mOp(c, dom, abi.AltP2MSwitch, func(u *abi.AltP2MView) { u.View = view }, nil)
}

// ChangeGFN maps the page at to at from, in a view; abi.InvalidGFN takes that
// back.
func (c *Conn) ChangeGFN(dom, view uint16, from, to uint64) error {
	return altp2mOp(c, dom, abi.AltP2MChangeGFN, func(u *abi.AltP2MChange) {
		u.View, u.OldGFN, u.NewGFN = view, from, to
	}, nil)
}

// SetViewAccess sets what a view allows with a page.
func (c *Conn) SetViewAccess(dom, view uint16, gfn uint64, access uint16) error {
	return altp2mOp(c, dom, abi.AltP2MSetMemAccess, func(u *abi.AltP2MAccess) {
		u.View, u.GFN, u.Access = view, gfn, access
	}, nil)
}

// VCPUView returns the view that a vCPU is in.
func (c *Conn) VCPUView(dom uint16, vcpu uint32) (view uint16, err error) {
	err = altp2mOp(c, dom, abi.AltP2MGetVCPUView,
		func(u *abi.AltP2MVCPUView) { u.VCPU = vcpu },
		func(u *abi.AltP2MVCPUView) { view = u.View })
	return view, err
}
