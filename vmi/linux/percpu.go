package linux

import (
	"fmt"
	"slices"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

const (
	maxCPUs = 8192
	// kernelHalf is the lowest address of the kernel half, with 5 levels.
	kernelHalf vmi.VirtAddr = 0xff00000000000000
)

// percpu finds the per-CPU areas. While a CPU runs the kernel, its GS base is
// the CPU's entry in __per_cpu_offset: what is added to a per-CPU symbol.
type percpu struct {
	offsets []vmi.VirtAddr // ascending
	// current is the per-CPU address of the pointer to the running task.
	current vmi.VirtAddr
}

func (p *percpu) resolve(k *Kernel, vcpus int) error {
	array, err := k.syms.Lookup("__per_cpu_offset")
	if err != nil {
		return err
	}
	n := uint64(vcpus)
	if addr, err := k.syms.Lookup("nr_cpu_ids"); err == nil {
		ids, err := k.as.Uint32(addr)
		if err != nil {
			return fmt.Errorf("nr_cpu_ids: %w", err)
		}
		n = uint64(ids)
	}
	if n == 0 || n > maxCPUs {
		return fmt.Errorf("%w: %d CPUs", ErrCorrupt, n)
	}
	for i := range n {
		off, err := k.as.Uint64(array + vmi.VirtAddr(8*i))
		if err != nil {
			return fmt.Errorf("__per_cpu_offset: %w", err)
		}
		p.offsets = append(p.offsets, vmi.VirtAddr(off))
	}
	slices.Sort(p.offsets)
	return p.findCurrent(k)
}

// findCurrent finds the variable that holds the running task: a symbol of its
// own up to 6.1 and again from 6.15 on, a member of pcpu_hot in between.
func (p *percpu) findCurrent(k *Kernel) error {
	hot, err := k.syms.Lookup("pcpu_hot")
	if err == nil {
		f, err := k.Field("pcpu_hot.current_task")
		if err == nil {
			p.current = hot + vmi.VirtAddr(f.Offset)
			return nil
		}
	}
	p.current, err = k.syms.Lookup("current_task")
	return err
}

// known reports whether base is a CPU's per-CPU offset. A user program can
// load any value into its GS base, so nothing else is believed.
func (p *percpu) known(base uint64) bool {
	if vmi.VirtAddr(base) < kernelHalf {
		return false
	}
	_, found := slices.BinarySearch(p.offsets, vmi.VirtAddr(base))
	return found
}

// base returns the per-CPU offset of the vCPU with registers r.
func (p *percpu) base(r *xen.Registers, entry vmi.VirtAddr) (vmi.VirtAddr, error) {
	first, second := r.GS.Base, r.ShadowGS
	if r.CPL() == 3 || vmi.VirtAddr(r.RIP) == entry {
		// In user mode, and at the kernel's first instruction, SWAPGS is yet to
		// come.
		first, second = second, first
	}
	if p.known(first) {
		return vmi.VirtAddr(first), nil
	}
	if p.known(second) {
		return vmi.VirtAddr(second), nil
	}
	return 0, ErrNotInKernel
}
