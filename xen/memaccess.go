package xen

import (
	"errors"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// accesses is what a monitor has changed in the domain's own p2m.
type accesses struct {
	set         bool
	first, last GFN
	deflt       bool // what pages that come may do
}

// SetAccess says what the guest may do with n frames from first on, whichever
// view it is in or without any: what it may not is an event, for which the vCPU
// waits. Its answer has to get the vCPU on: with [Emulate], with a step while the
// access is allowed, or by allowing it; after a plain [Continue] it is an event
// again. Large mappings are split, for good. Frames without memory are passed
// over. Close allows everything again.
//
// It needs an Intel processor, and another error than [ErrNotSupported] is
// [ErrNotFound] for frames beyond the domain's last. [AccessW] and [AccessWX] are
// refused, as the guest would crash. Do not set access in views of the same
// frame: Xen carries what changes here over to them.
func (m *Monitor) SetAccess(first GFN, n uint32, a Access) error {
	const op = "memory_op set_access"
	e := &m.events
	access, err := e.dom.access(op, a)
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	if err := e.dom.failAccess(op, e.dom.hyp.conn.SetAccess(uint16(e.dom.id), uint64(first), n, uint8(access))); err != nil {
		return err
	}
	last := first + GFN(n-1)
	if c := &e.access; !c.set {
		*c = accesses{set: true, first: first, last: last, deflt: c.deflt}
	} else {
		c.first, c.last = min(c.first, first), max(c.last, last)
	}
	return nil
}

// SetDefaultAccess says what the guest may do with pages that it gets from now
// on. Close allows everything again.
func (m *Monitor) SetDefaultAccess(a Access) error {
	const op = "memory_op set_access"
	e := &m.events
	access, err := e.dom.access(op, a)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	err = e.dom.failAccess(op, e.dom.hyp.conn.SetAccess(uint16(e.dom.id), abi.AccessOpDefault, 0, uint8(access)))
	if err == nil {
		e.access.deflt = true
	}
	return err
}

// Access returns what the guest may do with a frame by [Monitor.SetAccess]; it is
// AccessRWX where nothing was set. The error matches [ErrNotFound] if there is
// no memory.
func (m *Monitor) Access(gfn GFN) (Access, error) {
	const op = "memory_op get_access"
	e := &m.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return 0, err
	}
	a, err := e.dom.hyp.conn.Access(uint16(e.dom.id), uint64(gfn))
	return Access(a), e.dom.failAccess(op, err)
}

// failAccess explains the errors of memory access.
func (d *Domain) failAccess(op string, err error) error {
	kind, advice := error(nil), ""
	switch {
	case errors.Is(err, syscall.EINVAL):
		// Xen says the same of frames that are not and of processors that cannot.
		if c, cerr := d.Capabilities(); cerr == nil && !c.SingleStep() {
			kind, advice = ErrNotSupported, "restricting access to memory needs an Intel processor"
		} else {
			kind, advice = ErrNotFound, "a frame beyond the domain's last"
		}
	case errors.Is(err, syscall.ESRCH):
		if d.gone() != nil {
			break
		}
		kind, advice = ErrNotFound, "the domain has no memory there"
	}
	return d.failAs(op, kind, err, advice)
}

// restoreAccess allows everything that was not allowed. It needs the ring.
func (e *events) restoreAccess() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.access
	e.access = accesses{}
	var errs []error
	if c.deflt {
		errs = append(errs, e.dom.fail("memory_op set_access", e.dom.hyp.conn.SetAccess(uint16(e.dom.id), abi.AccessOpDefault, 0, abi.AccessRWX), ""))
	}
	if c.set {
		errs = append(errs, e.dom.RestoreAccess(c.first, c.last))
	}
	return errors.Join(errs...)
}

// RestoreAccess allows the guest everything with the frames from first to last,
// which a monitor that died has restricted with [Monitor.SetAccess]. It needs the
// ring that the monitor left: it is for [RecoverOptions].Restore. Without it the guest
// is allowed what it does to a frame from the first time on, which takes longer.
func (d *Domain) RestoreAccess(first, last GFN) error {
	for first <= last {
		n := min(uint64(last-first), 1<<31-1) + 1 // a call takes no more than 2^32 - 1
		if err := d.hyp.conn.SetAccess(uint16(d.id), uint64(first), uint32(n), abi.AccessRWX); err != nil {
			return d.failAccess("memory_op set_access", err)
		}
		if first += GFN(n); first == 0 {
			break
		}
	}
	return nil
}
