package linux

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

type moduleTypeFields struct {
	List   Field `btf:"btf_module.list?"`
	Module Field `btf:"btf_module.module?"`
	BTF    Field `btf:"btf_module.btf?"`
	Data   Field `btf:"btf.data?"`
	Size   Field `btf:"btf.data_size?"`
}

// ModuleTypes returns the types that a module adds to the kernel's, from the BTF
// that the kernel keeps of it; they refer to the kernel's, which are not among
// them. The error matches [ErrNoBTF] if the kernel keeps none: kernels do from 5.11
// on, with CONFIG_DEBUG_INFO_BTF_MODULES, of modules that were built with it.
func (k *Kernel) ModuleTypes(m Module) (*btf.Spec, error) {
	spec, err := k.moduleTypes(m)
	if err != nil {
		return nil, fmt.Errorf("types of module %s: %w", m.Name, err)
	}
	return spec, nil
}

func (k *Kernel) moduleTypes(m Module) (*btf.Spec, error) {
	f, err := k.fields.moduleType.of(k)
	if err != nil {
		return nil, err
	}
	head, err := k.syms.Lookup("btf_modules")
	if errors.Is(err, ErrNoSymbol) || f.List.Size == 0 || f.Data.Size == 0 {
		return nil, ErrNoBTF
	}
	r := &reader{s: k.as}
	for one, err := range k.list(head, f.List.Offset) {
		if err != nil {
			return nil, err
		}
		if of := r.ptr(f.Module, one); r.err != nil {
			return nil, r.err
		} else if of != m.Addr {
			continue
		}
		types := r.ptr(f.BTF, one)
		at, size := r.ptr(f.Data, types), r.uint(f.Size, types)
		if r.err != nil {
			return nil, r.err
		}
		if size > maxBTF {
			return nil, fmt.Errorf("%w: %d bytes of BTF", ErrCorrupt, size)
		}
		buf := make([]byte, size)
		if _, err := k.as.Read(at, buf); err != nil {
			return nil, err
		}
		return parseBTF(buf, k.types)
	}
	return nil, ErrNoBTF
}

// ModuleField resolves a path, as [Kernel.Field] does, that begins with a structure
// of the module's own.
func (k *Kernel) ModuleField(m Module, path string) (Field, error) {
	types, err := k.ModuleTypes(m)
	if err != nil {
		return Field{}, err
	}
	return fieldOf(types, path)
}

// parseBTF keeps a panic on malformed input, should the parser have one, away
// from the monitor. A module's types are on top of the kernel's.
func parseBTF(buf []byte, kernel *btf.Spec) (spec *btf.Spec, err error) {
	defer func() {
		if r := recover(); r != nil {
			spec, err = nil, fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	if kernel == nil {
		return btf.LoadSpecFromReader(bytes.NewReader(buf))
	}
	return btf.LoadSplitSpecFromReader(bytes.NewReader(buf), kernel)
}
