package xenfake

import (
	"maps"
	"slices"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// sharingOp makes and resets forks. It copies at once what Xen copies when somebody
// writes to it.
func (x *Xen) sharingOp(a *abi.MemSharingFork) syscall.Errno {
	if !x.cfg.MemSharing {
		return syscall.ENOSYS
	}
	d := x.domains[a.Domain]
	switch {
	case d == nil:
		return syscall.ESRCH
	case !x.mtf(): // VMX
		return syscall.EOPNOTSUPP
	case d.cfg.PV:
		return syscall.EOPNOTSUPP
	case d.cfg.Shadow:
		return syscall.ENODEV
	}
	switch a.Op {
	case abi.SharingFork:
		return x.fork(d, x.domains[a.Parent], a)
	case abi.SharingForkReset:
		return d.forkReset(a)
	}
	return syscall.ENOSYS
}

func (x *Xen) fork(d, parent *Domain, a *abi.MemSharingFork) syscall.Errno {
	switch {
	case a.Pad != 0 || a.Flags&^(abi.ForkWithIOMMUAllowed|abi.ForkBlockInterrupts) != 0:
		return syscall.EINVAL
	case parent == nil:
		return syscall.ESRCH
	case parent.cfg.VCPUs != d.cfg.VCPUs:
		return syscall.EINVAL
	case d.pauses == 0:
		return syscall.EBUSY
	case len(d.slots) > 0:
		x.violate("domain %d, which has memory, becomes a fork of domain %d", d.cfg.ID, parent.cfg.ID)
	}
	d.parent = parent
	parent.forks++ // a pause of Xen's own: neither is it told of, nor can it be taken back
	d.pages = max(d.pages, parent.pages)
	d.copyState()
	d.copyMemory()
	return 0
}

func (d *Domain) forkReset(a *abi.MemSharingFork) syscall.Errno {
	state, memory := a.Flags&abi.ForkResetState != 0, a.Flags&abi.ForkResetMemory != 0
	if d.x.cfg.Minor < 17 {
		state, memory = a.Flags == 0, a.Flags == 0
	}
	switch {
	case a.Pad != 0 || !state && !memory || a.Flags&^(abi.ForkResetState|abi.ForkResetMemory) != 0:
		return syscall.EINVAL
	case d.parent == nil:
		return syscall.ENOSYS
	}
	if state {
		d.copyState()
	}
	if memory {
		d.copyMemory()
	}
	return 0
}

// Forks returns how many forks the domain has, which keep it from running.
func (d *Domain) Forks() int {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.forks
}

func (d *Domain) copyState() { d.cpus = slices.Clone(d.parent.cpus) }

func (d *Domain) copyMemory() {
	for _, gfn := range slices.Sorted(maps.Keys(d.parent.slots)) {
		if _, there := d.slots[gfn]; there || d.populate(gfn) {
			copy(d.page(gfn), d.parent.page(gfn))
		}
	}
}
