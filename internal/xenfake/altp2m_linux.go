package xenfake

import (
	"slices"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// MaxViews is the number of altp2m views, view 0 included.
const MaxViews = 10

// ViewEntry is what a view has of its own at a frame.
type ViewEntry struct {
	GFN    uint64 // whose page it shows
	Access uint16
}

// altp2m is a domain's set of views.
type altp2m struct {
	active bool
	views  map[uint16]map[uint64]ViewEntry
	cur    []uint16 // of each vCPU
}

func (a *altp2m) reset(active bool) {
	a.active = active
	a.views = map[uint16]map[uint64]ViewEntry{}
	clear(a.cur)
	if active {
		a.views[0] = map[uint64]ViewEntry{}
	}
}

func (x *Xen) altp2mOp(arg uint64) syscall.Errno {
	op, errno := at[abi.AltP2MOp](x, arg)
	if errno != 0 {
		return errno
	}
	raw, _ := at[[80]byte](x, arg)
	if op.Version != abi.AltP2MVersion || !x.cfg.AltP2M {
		return syscall.EOPNOTSUPP
	}
	if *hcbuf.Overlay[[6]byte](raw[10:]) != [6]byte{} {
		return syscall.EINVAL
	}
	d := x.domains[op.Domain]
	if d == nil {
		return syscall.ESRCH
	}
	state := op.Cmd == abi.AltP2MGetDomainState || op.Cmd == abi.AltP2MSetDomainState
	if d.cfg.PV || !state && !d.altp2m.active {
		return syscall.EOPNOTSUPP
	}
	if !d.cfg.AltP2M {
		return syscall.EINVAL
	}
	return x.altp2mDomainOp(d, op.Cmd, op.U[:])
}

func (x *Xen) altp2mDomainOp(d *Domain, cmd uint32, u []byte) syscall.Errno {
	a := &d.altp2m
	view := *hcbuf.Overlay[uint16](u)
	_, there := a.views[view]
	switch cmd {
	case abi.AltP2MGetDomainState:
		s := hcbuf.Overlay[abi.AltP2MState](u)
		s.State = 0
		if a.active {
			s.State = 1
		}
	case abi.AltP2MSetDomainState:
		if on := hcbuf.Overlay[abi.AltP2MState](u).State != 0; on != a.active {
			a.reset(on)
		}
	case abi.AltP2MCreate:
		v := hcbuf.Overlay[abi.AltP2MView](u)
		if v.DefaultAccess > abi.AccessDefault(x.cfg.Major, x.cfg.Minor) {
			return syscall.EINVAL
		}
		for v.View = 0; v.View < MaxViews; v.View++ {
			if _, taken := a.views[v.View]; !taken {
				a.views[v.View] = map[uint64]ViewEntry{}
				return 0
			}
		}
		return syscall.EINVAL
	case abi.AltP2MDestroy:
		// One answer to all three.
		if view == 0 || !there || slices.Contains(a.cur, view) {
			return syscall.EBUSY
		}
		delete(a.views, view)
	case abi.AltP2MSwitch:
		if !there {
			return syscall.EINVAL
		}
		for i := range a.cur {
			a.cur[i] = view
		}
	case abi.AltP2MGetVCPUView:
		q := hcbuf.Overlay[abi.AltP2MVCPUView](u)
		if q.VCPU >= uint32(len(a.cur)) {
			return syscall.EINVAL
		}
		q.View = a.cur[q.VCPU]
	case abi.AltP2MSetMemAccess:
		return x.viewAccess(d, hcbuf.Overlay[abi.AltP2MAccess](u), *hcbuf.Overlay[uint32](u[4:]))
	case abi.AltP2MChangeGFN:
		c := hcbuf.Overlay[abi.AltP2MChange](u)
		if *hcbuf.Overlay[uint32](u[4:]) != 0 || !there || d.page(c.OldGFN) == nil {
			return syscall.EINVAL
		}
		if view == 0 {
			x.violate("view 0 is changed")
		}
		if c.NewGFN == abi.InvalidGFN {
			delete(a.views[view], c.OldGFN)
			return 0
		}
		if d.page(c.NewGFN) == nil {
			return syscall.EINVAL
		}
		e := d.entry(view, c.OldGFN)
		e.GFN = c.NewGFN
		a.views[view][c.OldGFN] = e
	default:
		return syscall.ENOSYS
	}
	return 0
}

// entry is what a view shows at a frame, by default what the domain's own p2m does.
func (d *Domain) entry(view uint16, gfn uint64) ViewEntry {
	if e, ok := d.altp2m.views[view][gfn]; ok {
		return e
	}
	e := ViewEntry{GFN: gfn, Access: abi.AccessRWX}
	if a, ok := d.access[gfn]; ok {
		e.Access = uint16(a)
	}
	return e
}

func (x *Xen) viewAccess(d *Domain, u *abi.AltP2MAccess, pad uint32) syscall.Errno {
	deflt := abi.AccessDefault(x.cfg.Major, x.cfg.Minor)
	if _, there := d.altp2m.views[u.View]; !there || pad != 0 || u.Access > deflt {
		return syscall.EINVAL
	}
	if d.page(u.GFN) == nil {
		return 0 // passed over
	}
	switch u.Access {
	case abi.AccessW, abi.AccessWX:
		x.violate("access %d crashes the guest", u.Access)
	case deflt:
		u.Access = abi.AccessRWX
	}
	if u.View == 0 { // the domain's own p2m, whose changes go to the views that have the page
		if delete(d.access, u.GFN); u.Access != abi.AccessRWX {
			d.access[u.GFN] = uint8(u.Access)
		}
		for _, v := range d.altp2m.views {
			if _, ok := v[u.GFN]; ok {
				v[u.GFN] = ViewEntry{GFN: u.GFN, Access: u.Access}
			}
		}
		return 0
	}
	e := d.entry(u.View, u.GFN)
	e.Access = u.Access
	d.altp2m.views[u.View][u.GFN] = e
	return 0
}

// AltP2M reports whether altp2m is active.
func (d *Domain) AltP2M() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.altp2m.active
}

// View returns the view that a vCPU is in.
func (d *Domain) View(vcpu int) uint16 {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.altp2m.cur[vcpu]
}

// Views returns how many views there are, view 0 included.
func (d *Domain) Views() int {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return len(d.altp2m.views)
}

// ViewEntry returns what a view has at a frame, its own or the domain's.
func (d *Domain) ViewEntry(view uint16, gfn uint64) ViewEntry {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.entry(view, gfn)
}
