package xen

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/govmi/govmi/internal/abi"
)

// Domain is one virtual machine. It holds no state in the hypervisor; it
// stays usable until its [Hypervisor] is closed and reports [ErrNoDomain]
// once the machine is gone. Its methods may be called from several goroutines.
//
// A domain number is reused after the domain's death: a Domain kept over a
// reboot of the guest may name a stranger.
type Domain struct {
	hyp *Hypervisor
	id  DomID
}

// DomainInfo is a snapshot of a domain's state.
type DomainInfo struct {
	ID       DomID
	HVM      bool // HVM or PVH; false is PV
	HAP      bool // hardware-assisted paging (nested page tables)
	Dying    bool // being destroyed; its memory goes
	Shutdown bool // stopped itself: powered off, rebooted or crashed
	// ShutdownReason is meaningful if Shutdown is set: 0 power off, 1 reboot,
	// 2 suspend, 3 crash, 4 watchdog, 5 soft reset.
	ShutdownReason uint8
	// Paused tells whether a toolstack or a debugger holds the domain, as
	// opposed to its vCPUs waiting for a monitor's answer.
	Paused  bool
	Blocked bool // all vCPUs idle
	Running bool // a vCPU is on a processor now

	OnlineVCPUs int
	MaxVCPU     VCPU          // the highest index, online or not
	Pages       uint64        // of PageSize, that the domain has
	MaxPages    uint64        // that it may have
	CPUTime     time.Duration // summed over the vCPUs
	UUID        [16]byte
}

func decodeInfo(i *abi.GetDomainInfo) DomainInfo {
	info := DomainInfo{
		ID:          DomID(i.Domain),
		HVM:         i.Flags&abi.DomInfHVM != 0,
		HAP:         i.Flags&abi.DomInfHAP != 0,
		Dying:       i.Flags&abi.DomInfDying != 0,
		Shutdown:    i.Flags&abi.DomInfShutdown != 0,
		Paused:      i.Flags&abi.DomInfPaused != 0,
		Blocked:     i.Flags&abi.DomInfBlocked != 0,
		Running:     i.Flags&abi.DomInfRunning != 0,
		OnlineVCPUs: int(i.OnlineVCPUs),
		MaxVCPU:     VCPU(i.MaxVCPUID),
		Pages:       i.TotPages,
		MaxPages:    i.MaxPages,
		CPUTime:     time.Duration(i.CPUTime),
		UUID:        i.Handle,
	}
	if info.Shutdown {
		info.ShutdownReason = uint8(i.Flags >> abi.DomInfShutdownShift)
	}
	return info
}

// ID returns the domain's number.
func (d *Domain) ID() DomID { return d.id }

// Name returns the domain's name in XenStore.
func (d *Domain) Name() (string, error) {
	store, err := d.hyp.xenStore()
	if err != nil {
		return "", err
	}
	defer store.Close()
	name, err := store.Read(namePath(d.id))
	if errors.Is(err, syscall.ENOENT) {
		return "", fault("name", d.id, ErrNoDomain, "XenStore knows no such domain")
	}
	return name, d.fail("name", err, "")
}

// Info asks the hypervisor for the domain's state.
func (d *Domain) Info() (DomainInfo, error) {
	i, err := d.hyp.conn.DomainInfo(uint16(d.id))
	if err != nil {
		advice := ""
		if errors.Is(err, syscall.ESRCH) {
			advice = "no such domain; see xl list"
		}
		return DomainInfo{}, d.fail("domctl getdomaininfo", err, advice)
	}
	return decodeInfo(&i), nil
}

// Pause stops all vCPUs and returns when they stand still. Xen counts pauses,
// up to 255; each needs its [Domain.Unpause], and a program that dies without
// leaves the domain paused.
func (d *Domain) Pause() error {
	return d.fail("domctl pausedomain", d.hyp.conn.PauseDomain(uint16(d.id)), "")
}

// Unpause takes back one [Domain.Pause].
func (d *Domain) Unpause() error {
	return d.fail("domctl unpausedomain", d.hyp.conn.UnpauseDomain(uint16(d.id)), "")
}

// Registers reads a vCPU's state, which Xen stops for the moment of reading.
// Pause the domain for a state that lasts. Not for PV domains.
func (d *Domain) Registers(v VCPU) (*Registers, error) {
	cpu, err := d.hyp.conn.CPUContext(uint16(d.id), uint32(v))
	if err != nil {
		advice := ""
		switch {
		case errors.Is(err, syscall.ENODATA):
			advice = "the vCPU is offline"
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EINVAL):
			advice = "no such vCPU, or a PV domain"
		}
		return nil, d.fail("domctl gethvmcontext_partial", err, advice)
	}
	r := new(Registers)
	r.fromContext(cpu)
	return r, nil
}

// AllRegisters reads the state of every vCPU that is online, as
// [Domain.Registers] does. It fails if none is.
func (d *Domain) AllRegisters() ([]Registers, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	var all []Registers
	for v := range info.MaxVCPU + 1 {
		var r *Registers
		if r, err = d.Registers(v); errors.Is(err, syscall.ENODATA) {
			continue
		} else if err != nil {
			return nil, err
		}
		all = append(all, *r)
	}
	if len(all) == 0 {
		return nil, err
	}
	return all, nil
}

// MaximumGPFN returns the highest guest frame number that the domain has
// used.
func (d *Domain) MaximumGPFN() (GFN, error) {
	n, err := d.hyp.conn.MaximumGPFN(uint16(d.id))
	return GFN(n), d.fail("memory_op maximum_gpfn", err, "")
}

// Populate gives the domain a page at gfn, where it must have none. The page's
// content is arbitrary. The domain must be allowed another page, see
// [Domain.SetMaxPages]. The caller takes it back with [Domain.RemoveFrame].
//
// The error matches [ErrExists] if there is a page already. Xen would take it
// from there, and the domain would have lost it for good.
func (d *Domain) Populate(gfn GFN) error {
	const op = "memory_op populate_physmap"
	mem, errno, err := d.mapFrame(uint64(gfn))
	switch {
	case err != nil:
		return d.fail(op, err, "")
	case errno == 0:
		return errors.Join(fault(op, d.id, ErrExists, fmt.Sprintf("the domain has a page at %v", gfn)),
			d.fail(op, d.hyp.conn.Unmap(mem), ""))
	}
	return d.fail(op, d.hyp.conn.PopulateFrame(uint16(d.id), uint64(gfn)),
		"the domain has all the memory that it may have, or the host has none: xl mem-max, xl info")
}

// RemoveFrame takes the page at gfn from the domain. It lives on as long as it
// is mapped by somebody. While this [Hypervisor] has a [Monitor] of the domain,
// the page goes when the monitor closes, and the error comes from there.
func (d *Domain) RemoveFrame(gfn GFN) error {
	if d.hyp.monitors.removeLater(d.id, gfn) {
		return nil
	}
	return d.removeFrame(gfn)
}

func (d *Domain) removeFrame(gfn GFN) error {
	return d.fail("memory_op decrease_reservation", d.hyp.conn.RemoveFrame(uint16(d.id), uint64(gfn)),
		"the domain has no page there")
}

// SetMaxPages sets how many pages of [PageSize] the domain may have, which is
// DomainInfo.MaxPages.
func (d *Domain) SetMaxPages(n uint64) error {
	const kbPerPage = PageSize / 1024
	if n > ^uint64(0)/kbPerPage {
		return fault("domctl max_mem", d.id, nil, "more pages than there can be")
	}
	return d.fail("domctl max_mem", d.hyp.conn.MaxMem(uint16(d.id), n*kbPerPage), "")
}

// InjectBreakpoint gives the vCPU a breakpoint exception (#BP) when it next
// runs, as if it had executed the int3 instruction of insnLength bytes at RIP:
// the way to hand back a breakpoint that is the guest's own. [ErrBusy] means
// that another event waits to be injected. Xen drops the exception silently if
// one of the vCPU's own is due at that moment.
func (d *Domain) InjectBreakpoint(v VCPU, insnLength uint8) error {
	const vectorBP = 3
	err := d.hyp.conn.InjectEvent(uint16(d.id), abi.InjectEvent{
		VCPU:      uint32(v),
		Vector:    vectorBP,
		Type:      abi.EventTypeSoftwareException,
		InsnLen:   insnLength,
		ErrorCode: abi.NoErrorCode,
	})
	advice := ""
	if errors.Is(err, syscall.EBUSY) {
		advice = "the vCPU has an event to take already"
	}
	return d.fail("dm_op inject_event", err, advice)
}

// StopSingleStep stops a vCPU from single-stepping, whoever made it step. Not
// before 4.17.4 and 4.18.1 does it revoke a [FastStep] on its way. The error
// matches [ErrNotSupported] where nothing can step: without VMX.
func (d *Domain) StopSingleStep(v VCPU) error {
	err := d.hyp.conn.SingleStep(uint16(d.id), uint32(v), false)
	advice := ""
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ESRCH) {
		advice = "no such vCPU"
	}
	return d.fail("domctl debug_op", err, advice)
}

// stopSingleSteps stops all vCPUs from stepping and goes on after errors.
func (d *Domain) stopSingleSteps() error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	var errs []error
	for v := range info.MaxVCPU + 1 {
		if err := d.StopSingleStep(v); !errors.Is(err, ErrNotSupported) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (d *Domain) fail(op string, err error, advice string) error {
	return fail(op, d.id, err, advice)
}

// failAs is fail for an error that matches kind, unless that is nil, whatever its
// errno says.
func (d *Domain) failAs(op string, kind, err error, advice string) error {
	err = d.fail(op, err, advice)
	var e *Error
	if kind != nil && errors.As(err, &e) {
		e.kind = kind
	}
	return err
}

// gone returns an error that matches ErrNoDomain if the domain is dead or
// dying, else nil.
func (d *Domain) gone() error {
	info, err := d.Info()
	if errors.Is(err, ErrNoDomain) {
		return err
	}
	if err == nil && info.Dying {
		return fault("monitor", d.id, ErrNoDomain, "the domain has been destroyed")
	}
	return nil
}
