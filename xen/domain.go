package xen

import "time"

// Domain is one virtual machine. It holds no state in the hypervisor; it
// stays usable until its [Hypervisor] is closed and reports [ErrNoDomain]
// once the machine is gone.
type Domain struct {
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
	MaxVCPU     VCPU // the highest index, online or not
	Pages       uint64
	MaxPages    uint64
	CPUTime     time.Duration // summed over the vCPUs
	UUID        [16]byte
}

// ID returns the domain's number.
func (d *Domain) ID() DomID { return 0 }

// Name returns the domain's name in XenStore.
func (d *Domain) Name() (string, error) { return "", errUnfinished }

// Info asks the hypervisor for the domain's state.
func (d *Domain) Info() (DomainInfo, error) { return DomainInfo{}, errUnfinished }

// Pause stops all vCPUs. Pauses are counted.
func (d *Domain) Pause() error { return errUnfinished }

// Unpause takes back one [Domain.Pause].
func (d *Domain) Unpause() error { return errUnfinished }

// Registers reads a vCPU's state.
func (d *Domain) Registers(v VCPU) (*Registers, error) { return nil, errUnfinished }

// MaximumGPFN returns the highest guest frame number in use.
func (d *Domain) MaximumGPFN() (GFN, error) { return 0, errUnfinished }

// InjectBreakpoint gives a software breakpoint back to the guest.
func (d *Domain) InjectBreakpoint(v VCPU, insnLength uint8) error { return errUnfinished }
