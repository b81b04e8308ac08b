package xen

import (
	"errors"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
)

// RecoverOptions configure [Domain.RecoverMonitor]; nil means the zero value.
type RecoverOptions struct {
	// AltP2MOff turns altp2m off, and with it removes all views and what was
	// changed in them, as breakpoints are that live in views.
	AltP2MOff bool
	// KeepPaused leaves the domain paused if it was. Xen does not know whose
	// pauses it counts: without KeepPaused those of the dead monitor are taken
	// back, and a pause that is somebody else's with them.
	KeepPaused bool
	// Restore, if not nil, is called with the domain paused, before anything is
	// released: to put back in the guest's memory what the dead monitor patched,
	// so that a vCPU that waits at a breakpoint goes on with the original
	// instruction. If it fails nothing is released.
	Restore func() error
	// Reclaim, if not nil, is called with the domain still paused, when the ring
	// is gone and with AltP2MOff the views: to take back pages that the dead
	// monitor gave the domain, which must not go beside a ring.
	Reclaim func() error
}

// RecoverMonitor brings a domain back whose monitor died without closing: it
// frees the ring and its events, among them a filter of CR3 writes, lets the
// vCPUs that wait for the dead monitor's answers run on, stops them from
// single-stepping, and takes the dead monitor's pauses back. Afterwards a new
// monitor can be opened. A domain with nothing to recover is paused for a
// moment. Recovering twice, or after a recovery that was cut short, is safe.
//
// The ring's page, at [ParamMonitorRingPFN], stays the guest's if the monitor died
// before it had taken it. The next monitor does.
//
// A CPUID instruction that a dead monitor was to see is executed again, with
// arguments that are lost, see [Monitor.EnableCPUID].
//
// By itself it does not repair the guest's memory: breakpoints in it stay, and a
// guest that runs into one without a monitor has to deal with it itself. The same
// is true of views without AltP2MOff, where each vCPU stays in the one that it is
// in. See RecoverOptions, and package breakpoint/journal for monitors that kept
// a journal.
//
// A live monitor must not be treated so. Every [Monitor] holds a lock of its
// machine (/run/govmi-monitor-N.lock, N the domain's number), which ends with
// its process: while that is held the error matches [ErrBusy] and nothing is
// done. A monitor that is no [Monitor] or runs in another domain cannot be told
// from a dead one; make sure that there is none.
//
// The error matches [ErrBusy] as well if a vCPU waits for room in the dead
// monitor's ring, which takes more than eight vCPUs. Nobody can make that room:
// the domain has to be destroyed.
func (d *Domain) RecoverMonitor(o *RecoverOptions) (err error) {
	const op = "recover monitor"
	if o == nil {
		o = &RecoverOptions{}
	}
	if err := d.monitorable(); err != nil {
		return err
	}
	lock, err := d.lockMonitor()
	switch {
	case errors.Is(err, device.ErrLocked):
		return &Error{Op: op, Domain: d.id, kind: ErrBusy, cause: err,
			Advice: "its monitor is alive: end that program, then there is nothing to recover"}
	case err != nil:
		return d.fail(op, err, "cannot tell whether its monitor is alive: run as root in dom0, with /run writable")
	}
	defer func() { err = errors.Join(err, d.fail(op, lock.Close(), "")) }()

	info, err := d.Info()
	if err != nil {
		return err
	}
	if err := d.Pause(); err != nil {
		return err
	}
	err = d.recoverPaused(info.MaxVCPU, o)
	err = errors.Join(err, d.Unpause())
	if err != nil || o.KeepPaused || !info.Paused {
		return err
	}
	return d.unpauseLeaked()
}

// recoverPaused does the work, with the domain paused.
func (d *Domain) recoverPaused(last VCPU, o *RecoverOptions) error {
	if o.Restore != nil {
		if err := o.Restore(); err != nil {
			return err
		}
	}
	_, err := d.hyp.conn.VMEvent(uint16(d.id), abi.VMEventDisable)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return d.fail("vm_event disable", err, "a vCPU waits for room in the dead monitor's ring: destroy the domain")
	case errors.Is(err, syscall.EINVAL): // there is no ring
	case err != nil:
		return d.fail("vm_event disable", err, "")
	}
	// The ring went, but the vCPUs wait on. Another one can answer them.
	var undo undoList
	a, err := d.attachRing(&undo)
	if err == nil {
		err = d.answerOrphans(a.ring, last)
	}
	err = errors.Join(err, undo.run())
	err = errors.Join(err, d.stopSingleSteps())
	if o.AltP2MOff {
		if aerr := d.SetAltP2M(false); !errors.Is(aerr, ErrNotSupported) {
			err = errors.Join(err, aerr)
		}
	}
	if err == nil && o.Reclaim != nil {
		err = o.Reclaim()
	}
	return err
}

// answerOrphans answers every vCPU, whether it waits or not: Xen ignores the
// answer to one that does not. A vCPU may wait for several answers.
func (d *Domain) answerOrphans(r *ring, last VCPU) error {
	const rounds = 4
	for range rounds {
		for v := VCPU(0); v <= last; {
			for range abi.RingSlots {
				if v <= last {
					r.answerOrphan(v)
					v++
				}
			}
			r.publish()
			if _, err := d.hyp.conn.VMEvent(uint16(d.id), abi.VMEventResume); err != nil {
				return d.fail("vm_event resume", err, "")
			}
			r.notified()
		}
	}
	return nil
}

// unpauseLeaked takes pauses back until the domain runs.
func (d *Domain) unpauseLeaked() error {
	const most = 255 // Xen counts no further
	for range most {
		if err := d.Unpause(); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Paused {
			return err
		}
	}
	return nil
}
