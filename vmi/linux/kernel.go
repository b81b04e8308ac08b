package linux

import (
	"errors"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Kernel is a guest's running kernel. Its methods are safe for concurrent
// use. It keeps no resource of its own: the caller closes the memory.
type Kernel struct {
	as      vmi.AddressSpace
	syms    *Symbols
	types   *btf.Spec
	release string
}

// Open finds the kernel in mem. regs holds the registers of the guest's
// vCPUs, of which one that has run the kernel is enough. Open reads some tens
// of MiB of guest memory; it may run while the guest runs.
func Open(mem *vmi.Memory, regs []xen.Registers) (*Kernel, error) {
	return nil, errors.New("not implemented")
}

// Symbols returns the kernel's symbols, without those of its modules.
func (k *Kernel) Symbols() *Symbols { return k.syms }

// Types returns the kernel's type information, without that of its modules.
func (k *Kernel) Types() *btf.Spec { return k.types }

// Release returns the kernel's release as uname -r prints it.
func (k *Kernel) Release() string { return k.release }

// AddressSpace returns the kernel's own address space, which belongs to no
// process and lasts as long as the kernel runs.
func (k *Kernel) AddressSpace() vmi.AddressSpace { return k.as }
