package linux

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

// ModuleState is what a module is doing, in the words of /proc/modules.
type ModuleState string

// The states of a module.
const (
	ModuleLive    ModuleState = "Live"
	ModuleLoading ModuleState = "Loading"
	ModuleGoing   ModuleState = "Unloading"
)

// Module is a loaded kernel module.
type Module struct {
	// Addr is that of its struct module.
	Addr  vmi.VirtAddr `json:"-"`
	Name  string
	State ModuleState
	// Base is the lowest address of its code, Size the bytes of all that it
	// keeps after its start, in one piece or, from Linux 6.4 on, in several.
	Base vmi.VirtAddr
	Size uint64
	// Refs is the number of its users, UsedBy the modules among them.
	Refs   int
	UsedBy []string
	// Ranges are the addresses of its code and data.
	Ranges []Range
}

// Range is a range of virtual addresses, End exclusive.
type Range struct{ Start, End vmi.VirtAddr }

// Contains reports whether va is in the range.
func (r Range) Contains(va vmi.VirtAddr) bool { return va >= r.Start && va < r.End }

type moduleFields struct {
	State  Field `btf:"module.state"`
	List   Field `btf:"module.list"`
	Name   Field `btf:"module.name"`
	Refs   Field `btf:"module.refcnt.counter"`
	Users  Field `btf:"module.source_list"`
	Source Field `btf:"module_use.source"`
	Use    Field `btf:"module_use.source_list"`
	// One or the other: Linux 6.4 divided the layout by kinds of memory.
	Core       Field `btf:"module.core_layout.base?"`
	CoreSize   Field `btf:"module.core_layout.size?"`
	CoreText   Field `btf:"module.core_layout.text_size?"`
	Memory     Field `btf:"module.mem?"`
	MemoryBase Field `btf:"module_memory.base?"`
	MemorySize Field `btf:"module_memory.size?"`
}

// Kinds of a module's memory that stay after its start (enum mod_mem_type): code,
// data, read-only data, data that is read-only after the start.
const moduleCoreKinds = 4

// moduleBase is what the kernel takes off the reference count for itself
// (MODULE_REF_BASE).
const moduleBase = 1

// Modules yields the loaded modules, the newest first, as /proc/modules does. The
// walk ends at the first error.
func (k *Kernel) Modules() iter.Seq2[Module, error] {
	return func(yield func(Module, error) bool) {
		f, err := k.fields.module.of(k)
		if err != nil {
			yield(Module{}, err)
			return
		}
		head, err := k.syms.Lookup("modules")
		if err != nil {
			yield(Module{}, err)
			return
		}
		for addr, err := range k.list(head, f.List.Offset) {
			if err != nil {
				yield(Module{}, err)
				return
			}
			m, ok, err := k.module(f, addr)
			if err != nil {
				err = fmt.Errorf("module at %v: %w", addr, err)
			}
			if (ok || err != nil) && !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// module reads a module; ok is false for one that is not set up yet.
func (k *Kernel) module(f *moduleFields, addr vmi.VirtAddr) (m Module, ok bool, err error) {
	r := &reader{s: k.as}
	m = Module{Addr: addr, Name: r.name(f.Name, addr), Refs: int(int32(r.uint(f.Refs, addr))) - moduleBase}
	switch state := r.uint(f.State, addr); state {
	case 0:
		m.State = ModuleLive
	case 1:
		m.State = ModuleLoading
	case 2:
		m.State = ModuleGoing
	default:
		return m, false, r.err
	}
	k.moduleMemory(r, f, &m)
	if r.err != nil {
		return m, false, r.err
	}
	for use, err := range k.list(r.in(f.Users, addr), f.Use.Offset) {
		if err != nil {
			return m, false, err
		}
		m.UsedBy = append(m.UsedBy, r.name(f.Name, r.ptr(f.Source, use)))
		if r.err != nil {
			return m, false, r.err
		}
	}
	return m, true, nil
}

// moduleMemory says where a module is.
func (k *Kernel) moduleMemory(r *reader, f *moduleFields, m *Module) {
	if f.Core.Size != 0 {
		m.Base, m.Size = r.ptr(f.Core, m.Addr), r.uint(f.CoreSize, m.Addr)
		m.Ranges = []Range{{m.Base, m.Base + vmi.VirtAddr(m.Size)}}
		return
	}
	if f.MemorySize.Size == 0 || f.Memory.Size == 0 {
		r.fail(fmt.Errorf("%w: neither module.core_layout nor module.mem", ErrNoField))
		return
	}
	stride, err := k.sizeof("module_memory")
	if err != nil {
		r.fail(err)
		return
	}
	for i := range min(uint32(moduleCoreKinds), f.Memory.Size/stride) {
		at := r.in(f.Memory, m.Addr) + vmi.VirtAddr(i*stride)
		base, size := r.ptr(f.MemoryBase, at), r.uint(f.MemorySize, at)
		if i == 0 {
			m.Base = base
		}
		if size != 0 {
			m.Ranges = append(m.Ranges, Range{base, base + vmi.VirtAddr(size)})
			m.Size += size
		}
	}
}

// name reads an array of characters that ends at a NUL.
func (r *reader) name(f Field, base vmi.VirtAddr) string {
	b, _, _ := bytes.Cut(r.bytes(f, base), []byte{0})
	return string(b)
}
