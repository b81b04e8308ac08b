package xen

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
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
func (m *Monitor) Capabilities() (Capabilities, error) {
	raw, err := m.dom.hyp.conn.Monitor(uint16(m.dom.id), abi.MonitorGetCapabilities, 0)
	return Capabilities{Raw: raw}, m.dom.fail("monitor_op get_capabilities", err, "")
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
// continue with the new options.
func (m *Monitor) EnableCtrlReg(reg CtrlReg, o *CtrlRegOptions) error {
	if o == nil {
		o = &CtrlRegOptions{}
	}
	return m.events.enableCtrlReg(reg, o)
}

// DisableCtrlReg turns the events for writes to reg off. Requests that are in
// the ring still come.
func (m *Monitor) DisableCtrlReg(reg CtrlReg) error { return m.events.disableCtrlReg(reg) }

// EnableSoftwareBreakpoint turns on events for every executed int3, the
// guest's own included: give those back with [Domain.InjectBreakpoint].
func (m *Monitor) EnableSoftwareBreakpoint() error { return m.events.enableBreakpoint() }

// DisableSoftwareBreakpoint turns them off. Requests that are in the ring
// still come.
func (m *Monitor) DisableSoftwareBreakpoint() error { return m.events.disableBreakpoint() }

// events keeps what is enabled, because Xen answers EEXIST to a request for
// the state that is.
type events struct {
	dom *Domain

	mu         sync.Mutex
	ctrlReg    [XCR0 + 1]bool
	breakpoint bool
}

func (e *events) enableCtrlReg(reg CtrlReg, o *CtrlRegOptions) error {
	op := fmt.Sprintf("enable events for %v writes", reg)
	if int(reg) >= len(e.ctrlReg) {
		return fault(op, e.dom.id, ErrNotSupported, "")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctrlReg[reg] {
		// New options need off and on; paused, so that no write is missed.
		return e.paused(func() error {
			if err := e.setCtrlReg(abi.MonitorDisable, reg, o); err != nil {
				return e.fail(op, err)
			}
			e.ctrlReg[reg] = false
			return e.turnOnCtrlReg(op, reg, o)
		})
	}
	return e.turnOnCtrlReg(op, reg, o)
}

func (e *events) turnOnCtrlReg(op string, reg CtrlReg, o *CtrlRegOptions) error {
	if err := e.setCtrlReg(abi.MonitorEnable, reg, o); err != nil {
		return e.fail(op, err)
	}
	e.ctrlReg[reg] = true
	return nil
}

func (e *events) disableCtrlReg(reg CtrlReg) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if int(reg) >= len(e.ctrlReg) || !e.ctrlReg[reg] {
		return nil
	}
	if err := e.setCtrlReg(abi.MonitorDisable, reg, &CtrlRegOptions{}); err != nil {
		return e.fail(fmt.Sprintf("disable events for %v writes", reg), err)
	}
	e.ctrlReg[reg] = false
	return nil
}

func (e *events) setCtrlReg(op uint32, reg CtrlReg, o *CtrlRegOptions) error {
	cr := abi.MonitorCtrlReg{Index: uint8(reg), Bitmask: o.IgnoreBits}
	if !o.Async {
		cr.Sync = 1
	}
	if o.OnChangeOnly {
		cr.OnChangeOnly = 1
	}
	return e.dom.hyp.conn.MonitorCtrlReg(uint16(e.dom.id), op, cr)
}

func (e *events) enableBreakpoint() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.breakpoint {
		return nil
	}
	_, err := e.dom.hyp.conn.Monitor(uint16(e.dom.id), abi.MonitorEnable, abi.MonitorSoftwareBreakpoint)
	if err != nil {
		return e.fail("enable software breakpoint events", err)
	}
	e.breakpoint = true
	return nil
}

func (e *events) disableBreakpoint() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.breakpoint {
		return nil
	}
	_, err := e.dom.hyp.conn.Monitor(uint16(e.dom.id), abi.MonitorDisable, abi.MonitorSoftwareBreakpoint)
	if err != nil {
		return e.fail("disable software breakpoint events", err)
	}
	e.breakpoint = false
	return nil
}

// disableAll turns off what is on and goes on after errors.
func (e *events) disableAll() error {
	var errs []error
	for reg := range e.ctrlReg {
		errs = append(errs, e.disableCtrlReg(CtrlReg(reg)))
	}
	return errors.Join(append(errs, e.disableBreakpoint())...)
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
