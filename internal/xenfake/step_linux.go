package xenfake

import (
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// mtf tells whether the processor can trap after each instruction.
func (x *Xen) mtf() bool { return x.cfg.Capabilities>>abi.MonitorSingleStep&1 != 0 }

func (x *Xen) debugOp(d *Domain, u *abi.DebugOp) syscall.Errno {
	switch {
	case u.VCPU >= uint32(d.cfg.VCPUs), u.Op > abi.DebugOpSingleStepOn:
		return syscall.EINVAL
	case !x.mtf():
		return syscall.EOPNOTSUPP
	}
	d.stepping[u.VCPU] = u.Op == abi.DebugOpSingleStepOn
	return 0
}

// follow does what a response asks for with the vCPU, which waits.
func (d *Domain) follow(h *abi.VMEventHeader) {
	v := h.VCPUID
	_, there := d.altp2m.views[h.Altp2mIdx]
	if h.Flags&abi.FlagAlternateP2M != 0 && there {
		d.altp2m.cur[v] = h.Altp2mIdx
	}
	switch {
	case h.Reason == abi.ReasonCPUID && h.Flags&abi.FlagSetRegisters == 0:
		d.x.violate("vCPU %d executes CPUID again, with its result as the argument", v)
	case h.Reason == abi.ReasonDescriptorAccess && h.Flags&(abi.FlagEmulate|abi.FlagSetRegisters) == 0:
		d.x.violate("vCPU %d does not get past its access to a descriptor table", v)
	}
	const step = abi.FlagToggleSingleStep | abi.FlagFastSingleStep
	if h.Flags&step == 0 || !d.x.mtf() {
		return
	}
	if h.Flags&step == step {
		d.x.violate("both kinds of step at once")
	}
	if !d.events[abi.MonitorSingleStep] {
		d.x.violate("vCPU %d steps unseen", v)
	}
	if h.Flags&abi.FlagToggleSingleStep != 0 {
		d.stepping[v] = !d.stepping[v]
		return
	}
	// The instruction is executed and the view switched.
	view := hcbuf.Overlay[abi.FastSingleStep](h.U[:]).P2MIdx
	if _, there := d.altp2m.views[view]; there {
		d.altp2m.cur[v] = view
	}
}

// SingleSteps reports whether executed instructions are monitored.
func (d *Domain) SingleSteps() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.events[abi.MonitorSingleStep]
}

// Stepping reports whether a vCPU traps after each instruction.
func (d *Domain) Stepping(vcpu int) bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.stepping[vcpu]
}

// SetStepping makes a vCPU trap, or not, as a monitor would have left it.
func (d *Domain) SetStepping(vcpu int, on bool) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.stepping[vcpu] = on
}
