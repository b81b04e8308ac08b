package xen

import "github.com/govmi/govmi/internal/abi"

// EnableCPUID turns on events for every CPUID instruction, for which the vCPU
// waits. The request's registers hold the result already, and RIP is still at
// the instruction: [Continue] goes on behind it with these registers, and a
// handler that wants others answers with [SetRegisters] and RIP advanced by
// CPUID.InsnLength.
//
// A monitor that is killed in between costs the process its result: after
// [Domain.RecoverMonitor] the instruction runs again with the result in its
// arguments.
func (m *Monitor) EnableCPUID() error { return enable(&m.events, abi.MonitorCPUID, noOptions{}) }

// DisableCPUID turns them off. Requests that are in the ring still come.
func (m *Monitor) DisableCPUID() error { return m.events.disable(abi.MonitorCPUID) }

// EnableDescriptorAccess turns on events for the instructions that read or write
// a descriptor-table register (SGDT, LIDT and the like), for which the vCPU
// waits. RIP is at the instruction; [Continue] has Xen emulate it. It needs a
// processor that can intercept them.
func (m *Monitor) EnableDescriptorAccess() error {
	return enable(&m.events, abi.MonitorDescAccess, noOptions{})
}

// DisableDescriptorAccess turns them off. Requests that are in the ring still
// come; their instructions are emulated all the same.
func (m *Monitor) DisableDescriptorAccess() error { return m.events.disable(abi.MonitorDescAccess) }

// EnableDebugException turns on events for debug exceptions (#DB): hardware
// breakpoints and the guest's own single-stepping. The vCPU does not wait, and
// the guest gets its exception as ever.
func (m *Monitor) EnableDebugException() error {
	return enable(&m.events, abi.MonitorDebugException, abi.MonitorSync{})
}

// DisableDebugException turns them off. Requests that are in the ring still come.
func (m *Monitor) DisableDebugException() error { return m.events.disable(abi.MonitorDebugException) }

// GuestRequestOptions configure [Monitor.EnableGuestRequest].
type GuestRequestOptions struct {
	// Async lets the vCPU run on while its request waits, as in [CtrlRegOptions].
	Async bool
	// Userspace allows requests of user programs as well, which the guest's
	// kernel then knows nothing of.
	Userspace bool
}

// EnableGuestRequest turns on events for what the guest asks for itself, with the
// hypercall hvm_op(24); a nil o means synchronous ones of its kernel. RIP is
// behind the hypercall when the vCPU goes on; a handler must not set it. If the
// events are on already, they continue with the new options.
func (m *Monitor) EnableGuestRequest(o *GuestRequestOptions) error {
	if o == nil {
		o = &GuestRequestOptions{}
	}
	var arg abi.MonitorRequest
	if !o.Async {
		arg.Sync = 1
	}
	if o.Userspace {
		arg.AllowUserspace = 1
	}
	return enable(&m.events, abi.MonitorGuestRequest, arg)
}

// DisableGuestRequest turns them off. Requests that are in the ring still come.
func (m *Monitor) DisableGuestRequest() error { return m.events.disable(abi.MonitorGuestRequest) }

// EnableVMExit turns on events for every exit of the guest to the hypervisor,
// which slows it down a great deal. The vCPU does not wait. Xen 4.17 or later, on
// Intel: on AMD Xen would take the request and never report one.
func (m *Monitor) EnableVMExit() error {
	c, err := m.Capabilities()
	if err != nil {
		return err
	}
	if !c.SingleStep() { // VMX has it
		return fault("enable VM exit events", m.dom.id, ErrNotSupported, "Xen reports VM exits on Intel processors only")
	}
	return enable(&m.events, abi.MonitorVMExit, abi.MonitorSync{})
}

// DisableVMExit turns them off. Requests that are in the ring still come.
func (m *Monitor) DisableVMExit() error { return m.events.disable(abi.MonitorVMExit) }
