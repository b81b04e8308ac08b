package xen

import "context"

// MonitorOptions configure [Domain.OpenMonitor].
type MonitorOptions struct {
}

// CtrlRegOptions configure [Monitor.EnableCtrlReg].
type CtrlRegOptions struct {
	// Async lets the vCPU run on while its request is in the ring.
	Async bool
	// IgnoreBits are the bits whose change alone makes no event: 0xfff on CR3
	// ignores pure PCID changes, 0x1fff also Linux's KPTI flips.
	IgnoreBits uint64
	// OnChangeOnly drops writes that change nothing. Xen drops those anyway.
	OnChangeOnly bool
}

// Capabilities are the events that a domain can be monitored for.
type Capabilities struct {
	Raw uint32 // as Xen reports them: bit n is event n of xen_domctl_monitor_op
}

// Monitor is a domain's monitor ring: it gets the requests and answers them.
type Monitor struct {
}

// OpenMonitor attaches to the domain's monitor ring.
func (d *Domain) OpenMonitor(opts *MonitorOptions) (*Monitor, error) { return nil, errUnfinished }

// Capabilities asks which events this domain can be monitored for.
func (m *Monitor) Capabilities() (Capabilities, error) { return Capabilities{}, errUnfinished }

// EnableCtrlReg turns on events for writes to a control register.
func (m *Monitor) EnableCtrlReg(reg CtrlReg, o *CtrlRegOptions) error { return errUnfinished }

// DisableCtrlReg turns them off.
func (m *Monitor) DisableCtrlReg(reg CtrlReg) error { return errUnfinished }

// EnableSoftwareBreakpoint turns on events for executed int3 instructions.
func (m *Monitor) EnableSoftwareBreakpoint() error { return errUnfinished }

// DisableSoftwareBreakpoint turns them off.
func (m *Monitor) DisableSoftwareBreakpoint() error { return errUnfinished }

// Serve answers requests with h until ctx ends.
func (m *Monitor) Serve(ctx context.Context, h Handler) error { return errUnfinished }

// Drain answers what is pending with a plain continue, without waiting, and
// returns how many requests that were.
func (m *Monitor) Drain() (int, error) { return 0, errUnfinished }

// Close detaches from the ring and leaves the guest running.
func (m *Monitor) Close() error { return nil }
