package xen

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"sync"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/privcmd"
	"github.com/govmi/govmi/internal/xenstore"
)

// Options configure [Open]. The nil pointer and the zero value use the
// kernel's devices.
type Options struct {
	// Devices replaces the kernel's devices with those of a fake hypervisor:
	// package xentest fills it in, and nobody else can.
	Devices device.Opener
}

// Version is the hypervisor's release, for people. Nothing in this package
// follows from it where the hypervisor can be asked instead.
type Version struct {
	Major, Minor int
	Extra        string // such as ".4-pre"; empty if the caller may not see it
}

func (v Version) String() string { return fmt.Sprintf("%d.%d%s", v.Major, v.Minor, v.Extra) }

// Hypervisor is a connection to the Xen that this domain runs on. Its methods
// may be called from several goroutines.
type Hypervisor struct {
	devices device.Opener
	conn    *privcmd.Conn
	version Version

	vmEvent    uint32 // the monitor ring's version, 0 if vmEventErr says why there is none
	vmEventErr error

	sysctl func() (uint32, error) // negotiated when first needed

	monitors monitors

	closeOnce sync.Once
	closeErr  error
}

// Open connects to the hypervisor and negotiates the versions of its
// interfaces: Xen 4.14 to 4.22 are known. It needs a control domain, that is
// dom0 in most installations, and root in it. The error matches [ErrPlatform],
// [ErrPermission] or [ErrVersion] and says what to do.
func Open(opts *Options) (*Hypervisor, error) {
	var devices device.Opener = device.Kernel{}
	if opts != nil && opts.Devices != nil {
		devices = opts.Devices
	}
	pc, err := openDevice(devices, device.Privcmd)
	if err != nil {
		return nil, err
	}
	mem, err := openDevice(devices, device.Hypercall)
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	h := &Hypervisor{devices: devices, conn: privcmd.New(pc, mem)}
	if err := h.negotiate(); err != nil {
		return nil, errors.Join(err, h.conn.Close())
	}
	h.sysctl = sync.OnceValues(h.conn.NegotiateSysctl)
	return h, nil
}

func openDevice(devices device.Opener, k device.Kind) (device.File, error) {
	f, err := devices.Open(k)
	if err == nil {
		return f, nil
	}
	e := &Error{Op: "open " + k.String(), Domain: NoDomID, cause: err}
	errors.As(err, &e.Errno)
	switch {
	case errors.Is(err, device.ErrPlatform):
		e.kind, e.cause = ErrPlatform, nil
	case errors.Is(err, fs.ErrPermission):
		e.Advice = "run as root in dom0"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		e.kind = ErrPlatform
		switch k {
		case device.Hypercall:
			e.Advice = "this kernel offers no hypercall memory: needs Linux 4.18 or later in dom0"
		case device.Evtchn:
			e.Advice = "load the kernel module xen-evtchn in dom0"
		default:
			e.Advice = "not a Xen control domain: boot under Xen, load the kernel module xen-privcmd and run in dom0 as root"
		}
	}
	return nil, e
}

func (h *Hypervisor) negotiate() error {
	major, minor, err := h.conn.XenVersion()
	if err != nil {
		advice := ""
		if errors.Is(err, syscall.EPERM) {
			advice = "this domain may not make hypercalls: run in dom0 (another monitoring domain needs the kernel parameter xen_privcmd.unrestricted)"
		}
		return fail("xen_version", NoDomID, err, advice)
	}
	h.version = Version{Major: major, Minor: minor}
	if extra, err := h.conn.XenExtraVersion(); err == nil {
		h.version.Extra = extra // XSM may keep it secret, which harms nothing
	}

	v, err := h.conn.NegotiateDomctl(major, minor)
	switch {
	case errors.Is(err, privcmd.ErrVersion):
		spoken := "none from 4.14 on"
		if v != 0 {
			spoken = fmt.Sprintf("%#x", v)
		}
		return fault("domctl version", NoDomID, ErrVersion, fmt.Sprintf(
			"Xen %v speaks %s; this program knows %#x to %#x (Xen 4.14 to 4.22)",
			h.version, spoken, abi.DomctlVersionMin, abi.DomctlVersionKnown))
	case err != nil:
		advice := ""
		if errors.Is(err, syscall.EPERM) {
			advice = "this domain may not control others: run in dom0"
		}
		return fail("domctl getdomaininfo", NoDomID, err, advice)
	}

	// A hypervisor without vm_event is still good for everything else.
	ev, err := h.conn.VMEvent(abi.DomIDInvalid, abi.VMEventGetVersion)
	switch {
	case err != nil:
		h.vmEventErr = fail("vm_event get_version", NoDomID, err, "this Xen offers no monitoring of guests")
	case abi.VMEventSize(ev) == 0:
		h.vmEventErr = fault("vm_event get_version", NoDomID, ErrVersion, fmt.Sprintf(
			"Xen %v speaks vm_event version %d; this program knows %d and %d (Xen 4.14 to 4.22)",
			h.version, ev, abi.VMEventV6, abi.VMEventV7))
	default:
		h.vmEvent = ev
	}
	return nil
}

// Version returns the hypervisor's release.
func (h *Hypervisor) Version() Version { return h.version }

// Domain returns the domain with the number id. The error matches
// [ErrNoDomain] if there is none or it is being destroyed.
func (h *Hypervisor) Domain(id DomID) (*Domain, error) {
	d := &Domain{hyp: h, id: id}
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	if info.Dying {
		return nil, fault("lookup", id, ErrNoDomain, "the domain is being destroyed")
	}
	return d, nil
}

// DomainByName returns the domain whose name in XenStore is name. The error
// matches [ErrNoDomain] if there is none.
func (h *Hypervisor) DomainByName(name string) (*Domain, error) {
	store, err := h.xenStore()
	if err != nil {
		return nil, err
	}
	defer store.Close()
	for info, err := range h.Domains() {
		if err != nil {
			return nil, err
		}
		if info.Dying {
			continue
		}
		n, err := store.Read(namePath(info.ID))
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) {
			continue // nameless, or gone since
		}
		if err != nil {
			return nil, fail("lookup by name", NoDomID, err, "")
		}
		if n == name {
			return &Domain{hyp: h, id: info.ID}, nil
		}
	}
	return nil, fault("lookup by name", NoDomID, ErrNoDomain, fmt.Sprintf("no domain is named %q; see xl list", name))
}

// LookupDomain returns the domain with the given number or name. All digits
// are a number first, and a name if no domain has that number.
func (h *Hypervisor) LookupDomain(nameOrID string) (*Domain, error) {
	n, err := strconv.ParseUint(nameOrID, 10, 16)
	if err != nil {
		return h.DomainByName(nameOrID)
	}
	d, err := h.Domain(DomID(n))
	if errors.Is(err, ErrNoDomain) {
		if d, err := h.DomainByName(nameOrID); err == nil {
			return d, nil
		}
	}
	return d, err
}

// Domains returns all domains in the order of their numbers, dom0 and dying
// ones included. An error ends the sequence.
func (h *Hypervisor) Domains() iter.Seq2[DomainInfo, error] {
	return func(yield func(DomainInfo, error) bool) {
		version, err := h.sysctlVersion()
		if err != nil {
			yield(DomainInfo{}, err)
			return
		}
		const batch = 32
		for next := 0; err == nil && next < abi.DomIDFirstReserved; {
			var list []abi.GetDomainInfo
			list, err = h.conn.DomainInfoList(version, uint16(next), batch)
			for i := range list {
				if int(list[i].Domain) < next {
					err = errors.New("the list goes backwards")
					break
				}
				next = int(list[i].Domain) + 1
				if !yield(decodeInfo(&list[i]), nil) {
					return
				}
			}
			if err == nil && len(list) < batch {
				return
			}
		}
		if err != nil {
			yield(DomainInfo{}, fail("sysctl getdomaininfolist", NoDomID, err, ""))
		}
	}
}

func (h *Hypervisor) xenStore() (*xenstore.Client, error) {
	c, err := h.devices.XenStore()
	if err != nil {
		return nil, fail("open XenStore", NoDomID, err, noXenStore)
	}
	return xenstore.New(c), nil
}

func namePath(id DomID) string { return fmt.Sprintf("/local/domain/%d/name", id) }

// Close releases the connection. Monitors and frames must be closed before;
// domains must not be used after. Close is idempotent.
func (h *Hypervisor) Close() error {
	h.closeOnce.Do(func() { h.closeErr = fail("close", NoDomID, h.conn.Close(), "") })
	return h.closeErr
}
