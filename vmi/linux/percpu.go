package linux

import (
	"fmt"
	"slices"
	"sync/atomic"

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
	// told is, by vCPU, the per-CPU offset that its registers had first where they were
	// sure to tell, and that it has always.
	told []atomic.Uint64
}

func (p *percpu) resolve(k *Kernel, regs []xen.Registers) error {
	array, err := k.syms.Lookup("__per_cpu_offset")
	if err != nil {
		return err
	}
	n := uint64(len(regs))
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
	p.told = make([]atomic.Uint64, n)
	for v := range min(len(regs), len(p.told)) {
		base := regs[v].GS.Base
		if user(&regs[v], k.entry) { // these are of a vCPU that was not running
			base = regs[v].ShadowGS
		}
		if p.known(base) {
			p.told[v].Store(base)
		}
	}
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

// user reports user mode, and the kernel's first instruction, where SWAPGS is yet to
// come.
func user(r *xen.Registers, entry vmi.VirtAddr) bool {
	return r.CPL() == 3 || vmi.VirtAddr(r.RIP) == entry
}

// base returns the per-CPU offset of the vCPU with registers r.
func (p *percpu) base(r *xen.Registers, entry vmi.VirtAddr) (vmi.VirtAddr, error) {
	first, second := r.GS.Base, r.ShadowGS
	if user(r, entry) {
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

// baseOn is base, in user mode by what the vCPU's registers had before.
func (p *percpu) baseOn(v xen.VCPU, r *xen.Registers, entry vmi.VirtAddr) (vmi.VirtAddr, error) {
	if uint64(v) >= uint64(len(p.told)) {
		return p.base(r, entry)
	}
	told := p.told[v].Load()
	if outside := user(r, entry); outside && told != 0 {
		return vmi.VirtAddr(told), nil
	} else if !outside && told == 0 && p.known(r.GS.Base) {
		p.told[v].Store(r.GS.Base)
	}
	return p.base(r, entry)
}
