package xen

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/privcmd"
)

// Capabilities are the events that a domain can be monitored for.
type Capabilities struct {
	// Raw is Xen's bitmap: bit n is event n of xen_domctl_monitor_op. It
	// promises more than some releases and processors hold.
	Raw uint32
}

// CtrlReg reports whether writes to control registers can be monitored.
func (c Capabilities) CtrlReg() bool { return c.Raw&(1<<abi.MonitorWriteCtrlReg) != 0 }

// SoftwareBreakpoint reports whether int3 can be monitored.
func (c Capabilities) SoftwareBreakpoint() bool {
	return c.Raw&(1<<abi.MonitorSoftwareBreakpoint) != 0
}

// SingleStep reports whether the processor can trap after one instruction
// without the guest's noticing (VMX monitor trap flag; never on AMD).
func (c Capabilities) SingleStep() bool { return c.Raw&(1<<abi.MonitorSingleStep) != 0 }

// Capabilities asks which events this domain can be monitored for.
func (m *Monitor) Capabilities() (Capabilities, error) { return m.dom.Capabilities() }

// Capabilities asks which events this domain can be monitored for; it need not
// be monitored for that.
func (d *Domain) Capabilities() (Capabilities, error) {
	raw, err := d.hyp.conn.Monitor(uint16(d.id), abi.MonitorGetCapabilities, 0)
	return Capabilities{Raw: raw}, d.fail("monitor_op get_capabilities", err, "this Xen reports no events of this domain")
}

// CtrlRegOptions configure [Monitor.EnableCtrlReg].
type CtrlRegOptions struct {
	// Async lets the vCPU run on while its request waits; the response then
	// has no effect on it, but is needed all the same. With eight or more
	// vCPUs Xen stops the vCPU anyway, for want of room in the ring.
	Async bool
	// OnChangeOnly drops writes that change nothing. Xen drops those anyway.
	OnChangeOnly bool
	// IgnoreBits are the bits whose change alone makes no event: 0xfff on CR3
	// ignores pure PCID changes, 0x1fff also Linux's KPTI flips. The processor
	// traps those writes all the same.
	IgnoreBits uint64
}

// EnableCtrlReg turns on events for writes to a control register; a nil o
// means synchronous ones for every change. If they are on already, they
// continue with the new options, and a filter of CR3 writes stays, though its
// counters begin anew.
func (m *Monitor) EnableCtrlReg(reg CtrlReg, o *CtrlRegOptions) error {
	if o == nil {
		o = &CtrlRegOptions{}
	}
	return m.events.enableCtrlReg(reg, o)
}

// DisableCtrlReg turns the events for writes to reg off. Requests that are in
// the ring still come. For CR3 it removes the filter as well, see
// [Monitor.SetCR3Filter].
func (m *Monitor) DisableCtrlReg(reg CtrlReg) error { return m.events.disableCtrlReg(reg) }

// EnableSoftwareBreakpoint turns on events for every executed int3, the
// guest's own included: give those back with [Domain.InjectBreakpoint].
func (m *Monitor) EnableSoftwareBreakpoint() error {
	return enable(&m.events, abi.MonitorSoftwareBreakpoint, noOptions{})
}

// DisableSoftwareBreakpoint turns them off. Requests that are in the ring
// still come.
func (m *Monitor) DisableSoftwareBreakpoint() error {
	return m.events.disable(abi.MonitorSoftwareBreakpoint)
}

// EnableSingleStep turns on events for executed instructions. It makes no vCPU
// step: answers do, see [Step]. Needs VMX (Capabilities.SingleStep).
func (m *Monitor) EnableSingleStep() error { return m.events.enableSingleStep() }

// DisableSingleStep turns them off and stops every vCPU from stepping. Requests
// that are in the ring still come; answers to others must not ask for a step
// any more.
func (m *Monitor) DisableSingleStep() error { return m.events.disableSingleStep() }

// events keeps what is enabled, because Xen answers EEXIST to a request for
// the state that is.
type events struct {
	dom *Domain

	mu      sync.Mutex
	closed  bool // the ring goes or is gone: nothing may be enabled
	ctrlReg [XCR0 + 1]bool
	msr     map[uint32]bool
	on      [len(eventNames)]bool // those without parameters, by Xen's number
	stepped bool                  // single-step events were on at some time
	steps   *atomic.Bool          // whether they are, for who answers
	filter  cr3Filter
	access  accesses
}

// eventNames are the events without parameters, by Xen's number.
var eventNames = [...]string{
	abi.MonitorSingleStep:         "single-step",
	abi.MonitorSoftwareBreakpoint: "software breakpoint",
	abi.MonitorGuestRequest:       "guest request",
	abi.MonitorDebugException:     "debug exception",
	abi.MonitorCPUID:              "CPUID",
	abi.MonitorDescAccess:         "descriptor access",
	abi.MonitorVMExit:             "VM exit",
}

func (e *events) enableCtrlReg(reg CtrlReg, o *CtrlRegOptions) error {
	op := fmt.Sprintf("enable events for %v writes", reg)
	if int(reg) >= len(e.ctrlReg) {
		return fault(op, e.dom.id, ErrNotSupported, "")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	if !e.ctrlReg[reg] {
		return e.turnOnCtrlReg(op, reg, o)
	}
	// New options need off and on; paused, so that no write is missed.
	return e.paused(func() error {
		restore := func() error { return nil }
		if reg == CR3 {
			var err error
			if restore, err = e.saveCR3Filter(); err != nil {
				return err
			}
		}
		if err := e.turnOffCtrlReg(reg); err != nil {
			return err
		}
		if err := restore(); err != nil {
			return err
		}
		return e.turnOnCtrlReg(op, reg, o)
	})
}

func (e *events) turnOnCtrlReg(op string, reg CtrlReg, o *CtrlRegOptions) error {
	if err := e.setCtrlReg(abi.MonitorEnable, reg, o); err != nil {
		return e.fail(op, err)
	}
	e.ctrlReg[reg] = true
	return nil
}

func (e *events) turnOffCtrlReg(reg CtrlReg) error {
	if !e.ctrlReg[reg] {
		return nil
	}
	if err := e.setCtrlReg(abi.MonitorDisable, reg, &CtrlRegOptions{}); err != nil {
		return e.fail(fmt.Sprintf("disable events for %v writes", reg), err)
	}
	e.ctrlReg[reg] = false
	if reg == CR3 {
		e.filter.set = false
	}
	return nil
}

func (e *events) disableCtrlReg(reg CtrlReg) error {
	if int(reg) >= len(e.ctrlReg) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.turnOffCtrlReg(reg)
}

func (e *events) setCtrlReg(op uint32, reg CtrlReg, o *CtrlRegOptions) error {
	cr := abi.MonitorCtrlReg{Index: uint8(reg), Bitmask: o.IgnoreBits}
	if !o.Async {
		cr.Sync = 1
	}
	if o.OnChangeOnly {
		cr.OnChangeOnly = 1
	}
	return privcmd.MonitorEvent(e.dom.hyp.conn, uint16(e.dom.id), op, abi.MonitorWriteCtrlReg, cr)
}

func (e *events) enableSingleStep() error {
	if err := enable(e, abi.MonitorSingleStep, noOptions{}); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.on[abi.MonitorSingleStep] { // nobody was faster
		e.stepped = true
		e.steps.Store(true)
	}
	return nil
}

func (e *events) disableSingleStep() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.on[abi.MonitorSingleStep] {
		return nil
	}
	e.steps.Store(false)
	// Paused, so that no vCPU steps on without anybody seeing it.
	return e.paused(func() error {
		if err := e.turnOff(abi.MonitorSingleStep); err != nil {
			return err
		}
		return e.dom.stopSingleSteps()
	})
}

// stopStepping makes sure at the end that no vCPU steps.
func (e *events) stopStepping() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stepped {
		return nil
	}
	return e.dom.stopSingleSteps()
}

// noOptions are those of an event that has none.
type noOptions [0]byte

// enable turns on an event, or changes its options.
func enable[O any](e *events, event uint32, o O) error {
	op := "enable " + eventNames[event] + " events"
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	on := func() error {
		err := privcmd.MonitorEvent(e.dom.hyp.conn, uint16(e.dom.id), abi.MonitorEnable, event, o)
		if err == nil {
			e.on[event] = true
		}
		return e.fail(op, err)
	}
	switch _, none := any(o).(noOptions); {
	case !e.on[event]:
		return on()
	case none:
		return nil
	}
	// New options need off and on; paused, so that nothing is missed.
	return e.paused(func() error {
		if err := e.turnOff(event); err != nil {
			return err
		}
		return on()
	})
}

func (e *events) disable(event uint32) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.turnOff(event)
}

func (e *events) turnOff(event uint32) error {
	if !e.on[event] {
		return nil
	}
	_, err := e.dom.hyp.conn.Monitor(uint16(e.dom.id), abi.MonitorDisable, event)
	if err == nil {
		e.on[event] = false
	}
	return e.fail("disable "+eventNames[event]+" events", err)
}

// open returns an error when the ring is going: up to 4.21 Xen does not
// survive every event that is enabled without one.
func (e *events) open(op string) error {
	if e.closed {
		return fault(op, e.dom.id, ErrClosed, "")
	}
	return nil
}

// disableAll turns off what is on, for good, and goes on after errors.
func (e *events) disableAll() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.steps.Store(false)
	var errs []error
	for reg := range e.ctrlReg {
		errs = append(errs, e.turnOffCtrlReg(CtrlReg(reg)))
	}
	for msr := range e.msr {
		errs = append(errs, e.turnOffMSR(msr))
	}
	for event := range e.on {
		errs = append(errs, e.turnOff(uint32(event)))
	}
	return errors.Join(errs...)
}

// paused runs f with the domain paused.
func (e *events) paused(f func() error) error {
	if err := e.dom.Pause(); err != nil {
		return err
	}
	return errors.Join(f(), e.dom.Unpause())
}

func (e *events) fail(op string, err error) error {
	advice := ""
	if errors.Is(err, syscall.EOPNOTSUPP) {
		advice = "this processor or this kind of domain cannot report them"
	}
	return e.dom.fail(op, err, advice)
}
