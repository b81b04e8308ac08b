package xen

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// Access says what a view lets the guest do with a page (xenmem_access_t).
// What it does not is an event.
type Access uint8

// The kinds of access, by Xen's names.
const (
	AccessN   Access = abi.AccessN
	AccessR   Access = abi.AccessR
	AccessW   Access = abi.AccessW // refused: no processor can, the guest would crash
	AccessRW  Access = abi.AccessRW
	AccessX   Access = abi.AccessX // needs a processor with execute-only pages
	AccessRX  Access = abi.AccessRX
	AccessWX  Access = abi.AccessWX // refused, as AccessW is
	AccessRWX Access = abi.AccessRWX
	// AccessRX2RW becomes AccessRW on the first write, without an event.
	AccessRX2RW Access = abi.AccessRX2RW
	// AccessN2RWX becomes AccessRWX on the first access, with an event for
	// which the vCPU does not wait.
	AccessN2RWX Access = abi.AccessN2RWX
	// AccessRPW is for reads, and for writes of the processor's page walks
	// only. Xen 4.20 or later.
	AccessRPW Access = abi.AccessRPW

	// AccessDefault is the domain's default access. Releases have different
	// numbers for it; this is none of them.
	AccessDefault Access = 0xff
)

const (
	altp2mHost   = "needs an Intel processor and altp2m=1 on Xen's command line"
	altp2mDomain = `this domain may not have views: set altp2m="external" in its configuration, and no nested virtualization`
)

// AltP2M reports whether altp2m is active for the domain. The error matches
// [ErrNotSupported], and says what is missing, where it cannot be.
func (d *Domain) AltP2M() (bool, error) {
	on, err := d.hyp.conn.AltP2MState(uint16(d.id))
	return on, d.failAltP2M("altp2m get_domain_state", err)
}

// SetAltP2M turns altp2m on or off. On, all vCPUs are in view 0, which shows
// what the domain's own p2m shows. Off, all views are gone and with them all
// changes made in them. Nothing turns it off when the program dies.
func (d *Domain) SetAltP2M(on bool) error {
	return d.failAltP2M("altp2m set_domain_state", d.hyp.conn.SetAltP2MState(uint16(d.id), on))
}

// failAltP2M explains the errors of asking for and changing the state.
func (d *Domain) failAltP2M(op string, err error) error {
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		return d.fail(op, err, altp2mHost)
	case errors.Is(err, syscall.EINVAL):
		return &Error{Op: op, Domain: d.id, Errno: syscall.EINVAL, Advice: altp2mDomain, kind: ErrNotSupported, cause: err}
	}
	return d.fail(op, err, "")
}

// failView explains the errors of working on views.
func (d *Domain) failView(op string, err error, advice string) error {
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		on, serr := d.AltP2M()
		switch {
		case serr != nil:
			return serr
		case !on && d.gone() != nil: // it went off with the domain
			return fault(op, d.id, ErrNoDomain, "the domain has been destroyed")
		case !on:
			advice = "altp2m is off for this domain: SetAltP2M(true) first"
		}
	}
	return d.fail(op, err, advice)
}

// CreateView makes a view. It shows what the domain's own p2m shows until
// something is changed in it. The error matches [ErrNoSpace] if there are as
// many as there may be: 10 with view 0 up to Xen 4.20, later what altp2m_count
// in the domain's configuration says.
//
// What the domain's own p2m does with a frame, ballooning for one, undoes the
// changes to that frame in all views.
func (d *Domain) CreateView() (View, error) {
	const op = "altp2m create_p2m"
	v, err := d.hyp.conn.CreateView(uint16(d.id), abi.AccessDefault(d.hyp.version.Major, d.hyp.version.Minor))
	switch {
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSPC):
		e := &Error{Op: op, Domain: d.id, kind: ErrNoSpace, cause: err,
			Advice: "no view is left: destroy one, or from Xen 4.21 on raise altp2m_count in the domain's configuration"}
		errors.As(err, &e.Errno)
		return 0, e
	case errors.Is(err, syscall.ENOMEM):
		return 0, d.failView(op, err, poolFull)
	}
	return View(v), d.failView(op, err, "")
}

const poolFull = "the domain's pool for page tables is full: raise shadow_memory in its configuration"

// DestroyView removes a view. The error matches [ErrBusy] if a vCPU is in it,
// and, as Xen has it, if there is no such view.
func (d *Domain) DestroyView(v View) error {
	const op = "altp2m destroy_p2m"
	if v == 0 {
		return d.viewZero(op)
	}
	err := d.hyp.conn.DestroyView(uint16(d.id), uint16(v))
	advice := ""
	if errors.Is(err, syscall.EBUSY) {
		advice = "a vCPU is in the view, SwitchView(0) first; or " + noView(v)
	}
	return d.failView(op, err, advice)
}

// SwitchView switches all vCPUs to a view; 0 is the domain's own. A response
// to an event can switch a single one, see [Response].
func (d *Domain) SwitchView(v View) error {
	err := d.hyp.conn.SwitchView(uint16(d.id), uint16(v))
	advice := ""
	if errors.Is(err, syscall.EINVAL) {
		advice = noView(v)
	}
	return d.failView("altp2m switch_p2m", err, advice)
}

// ChangeGFN shows, in the view v, the page at to where from is. There has to
// be memory at both. View 0 is refused.
func (d *Domain) ChangeGFN(v View, from, to GFN) error {
	if uint64(to) == abi.InvalidGFN {
		return fault("altp2m change_gfn", d.id, ErrNotFound, fmt.Sprintf("no frame %v", to))
	}
	return d.changeGFN(v, from, uint64(to))
}

// ResetGFN takes back what [Domain.ChangeGFN] and [Domain.SetViewAccess] did to
// gfn in the view v.
func (d *Domain) ResetGFN(v View, gfn GFN) error {
	return d.changeGFN(v, gfn, abi.InvalidGFN)
}

func (d *Domain) changeGFN(v View, from GFN, to uint64) error {
	const op = "altp2m change_gfn"
	if v == 0 {
		return d.viewZero(op)
	}
	err := d.hyp.conn.ChangeGFN(uint16(d.id), uint16(v), uint64(from), to)
	advice := ""
	switch {
	case errors.Is(err, syscall.EINVAL) && to == abi.InvalidGFN:
		advice = fmt.Sprintf("there is no view %d, or no memory at %v", v, from)
	case errors.Is(err, syscall.EINVAL):
		advice = fmt.Sprintf("there is no view %d, or no memory at %v or %v", v, from, GFN(to))
	case errors.Is(err, syscall.ENOMEM):
		advice = poolFull
	}
	return d.failView(op, err, advice)
}

// SetViewAccess says what the view v lets the guest do with the page at gfn;
// what it does not is an event for the monitor. Large mappings of the view are
// split for it. Where there is no page, it does nothing. View 0 is refused, as
// are [AccessW] and [AccessWX].
func (d *Domain) SetViewAccess(v View, gfn GFN, a Access) error {
	const op = "altp2m set_mem_access"
	if v == 0 {
		return d.viewZero(op)
	}
	access, err := d.access(op, a)
	if err != nil {
		return err
	}
	err = d.hyp.conn.SetViewAccess(uint16(d.id), uint16(v), uint64(gfn), access)
	advice := ""
	switch {
	case errors.Is(err, syscall.EINVAL):
		advice = noView(v)
	case errors.Is(err, syscall.ENOMEM):
		advice = poolFull
	}
	return d.failView(op, err, advice)
}

// SetOwnAccess says what the guest may do with the page at gfn in the domain's own
// p2m, which view 0 shows, as [Monitor.SetAccess] does: but it needs altp2m in
// place of a ring, and only the caller allows it again. Views that have shown the
// page already take the access over, others when they show it first; what they
// have of their own at gfn is lost. Without a monitor Xen allows what the guest
// does, and forgets the rest. There has to be memory. [AccessW] and [AccessWX] are
// refused.
func (d *Domain) SetOwnAccess(gfn GFN, a Access) error {
	const op = "altp2m set_mem_access"
	access, err := d.access(op, a)
	if err != nil {
		return err
	}
	err = d.hyp.conn.SetViewAccess(uint16(d.id), 0, uint64(gfn), access)
	advice := ""
	if errors.Is(err, syscall.ENOMEM) {
		advice = poolFull
	}
	return d.failView(op, err, advice)
}

// VCPUView returns the view that a vCPU is in. Unless the domain is paused, it may
// be in another one by now.
func (d *Domain) VCPUView(v VCPU) (View, error) {
	view, err := d.hyp.conn.VCPUView(uint16(d.id), uint32(v))
	advice := ""
	if errors.Is(err, syscall.EINVAL) {
		advice = "no such vCPU"
	}
	return View(view), d.failView("altp2m get_p2m_idx", err, advice)
}

// access returns this release's number for a kind of access.
func (d *Domain) access(op string, a Access) (uint16, error) {
	version := d.hyp.version
	deflt := abi.AccessDefault(version.Major, version.Minor)
	switch {
	case a == AccessDefault:
		return deflt, nil
	case a == AccessW, a == AccessWX:
		return 0, fault(op, d.id, ErrNotSupported, fmt.Sprintf(
			"access %v is none that a processor knows and would crash the guest: allow reads as well", a))
	case uint16(a) >= deflt:
		return 0, fault(op, d.id, ErrNotSupported, fmt.Sprintf("Xen %v knows no access %v", version, a))
	}
	return uint16(a), nil
}

func noView(v View) string { return fmt.Sprintf("there is no view %d", v) }

func (d *Domain) viewZero(op string) error {
	return fault(op, d.id, ErrNotSupported, "view 0 is the domain's own and cannot be changed: CreateView")
}

func (a Access) String() string {
	names := [...]string{"n", "r", "w", "rw", "x", "rx", "wx", "rwx", "rx2rw", "n2rwx", "r_pw"}
	switch {
	case int(a) < len(names):
		return names[a]
	case a == AccessDefault:
		return "default"
	}
	return fmt.Sprintf("%d", uint8(a))
}
