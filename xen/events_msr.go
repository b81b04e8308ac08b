package xen

import (
	"fmt"
	"slices"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/privcmd"
)

// MSROptions configure [Monitor.EnableMSR]; nil means the zero value.
type MSROptions struct {
	// OnChangeOnly drops writes of the value that is there already.
	OnChangeOnly bool
}

// EnableMSR turns on events for writes to one model-specific register, for which
// the vCPU always waits. It may be one of the first 8192 (0 to 0x1fff) or of
// those from 0xc0000000 to 0xc0001fff; the error of others matches
// [ErrNotSupported]. Xen's own from 0x40000000 on are refused too: some releases
// do not survive them. So are those that can only be written, such as the local
// APIC's end of interrupt: Xen reads a register first that is monitored, and where
// that fails so does the guest's write. If the events are on already, they
// continue with the new options.
//
// On AMD, Xen may intercept the writes of a register for itself and let it go
// again, after which they make no more events.
func (m *Monitor) EnableMSR(msr uint32, o *MSROptions) error {
	if o == nil {
		o = &MSROptions{}
	}
	return m.events.enableMSR(msr, o)
}

// DisableMSR turns the events for writes to an MSR off. Requests that are in the
// ring still come.
func (m *Monitor) DisableMSR(msr uint32) error {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	return m.events.turnOffMSR(msr)
}

// monitorableMSR tells whether Xen has a bit for the MSR in its bitmap. It has
// bits for the hypervisor's own MSRs as well.
func monitorableMSR(msr uint32) bool {
	const each = 0x2000
	return msr < each || msr >= 0xc0000000 && msr < 0xc0000000+each
}

// writeOnlyMSRs are those that a guest writes and Xen cannot read for it.
var writeOnlyMSRs = []uint32{
	0x49,  // PRED_CMD
	0x79,  // BIOS_UPDT_TRIG
	0x10b, // FLUSH_CMD
	0x80b, // X2APIC_EOI
	0x83f, // X2APIC_SELF_IPI
}

func (e *events) enableMSR(msr uint32, o *MSROptions) error {
	op := fmt.Sprintf("enable events for writes of MSR %#x", msr)
	if !monitorableMSR(msr) {
		return fault(op, e.dom.id, ErrNotSupported, "only MSRs 0 to 0x1fff and 0xc0000000 to 0xc0001fff can be monitored")
	}
	if slices.Contains(writeOnlyMSRs, msr) {
		return fault(op, e.dom.id, ErrNotSupported, "it can only be written, and Xen lets each write of such a monitored MSR fail")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(op); err != nil {
		return err
	}
	arg := abi.MonitorMSR{MSR: msr}
	if o.OnChangeOnly {
		arg.OnChangeOnly = 1
	}
	on := func() error {
		err := privcmd.MonitorEvent(e.dom.hyp.conn, uint16(e.dom.id), abi.MonitorEnable, abi.MonitorMovToMSR, arg)
		if err == nil {
			if e.msr == nil {
				e.msr = map[uint32]bool{}
			}
			e.msr[msr] = true
		}
		return e.fail(op, err)
	}
	if !e.msr[msr] {
		return on()
	}
	return e.paused(func() error {
		if err := e.turnOffMSR(msr); err != nil {
			return err
		}
		return on()
	})
}

func (e *events) turnOffMSR(msr uint32) error {
	if !e.msr[msr] {
		return nil
	}
	arg := abi.MonitorMSR{MSR: msr}
	err := privcmd.MonitorEvent(e.dom.hyp.conn, uint16(e.dom.id), abi.MonitorDisable, abi.MonitorMovToMSR, arg)
	if err == nil {
		delete(e.msr, msr)
	}
	return e.fail(fmt.Sprintf("disable events for writes of MSR %#x", msr), err)
}
