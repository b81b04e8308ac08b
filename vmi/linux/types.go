package linux

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// maxBTF bounds the type information that is read; a distribution's kernel has
// 4 to 8 MiB.
const maxBTF = 64 << 20

// readTypes reads the kernel's BTF, which its linker script puts between two
// symbols.
func (k *Kernel) readTypes() (*btf.Spec, error) {
	start, err := k.syms.Lookup("__start_BTF")
	if err != nil {
		return nil, ErrNoBTF
	}
	stop, err := k.syms.Lookup("__stop_BTF")
	if err != nil || stop <= start {
		return nil, ErrNoBTF
	}
	if stop-start > maxBTF {
		return nil, fmt.Errorf("%w: %d bytes of BTF", ErrCorrupt, stop-start)
	}
	buf := make([]byte, stop-start)
	if _, err := k.as.Read(start, buf); err != nil {
		return nil, fmt.Errorf("kernel's BTF: %w", err)
	}
	spec, err := parseBTF(buf, nil)
	if err != nil {
		return nil, fmt.Errorf("kernel's BTF: %w", err)
	}
	return spec, nil
}

// structure returns the structure or union of a name.
func (k *Kernel) structure(name string) (btf.Type, error) { return structureOf(k.types, name) }

func structureOf(types *btf.Spec, name string) (_ btf.Type, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: BTF of %s: %v", ErrCorrupt, name, r)
		}
	}()
	var s *btf.Struct
	err = types.TypeByName(name, &s)
	if err == nil {
		return s, nil
	}
	var u *btf.Union
	if types.TypeByName(name, &u) == nil {
		return u, nil
	}
	if errors.Is(err, btf.ErrNotFound) {
		return nil, fmt.Errorf("%w: struct %s", ErrNoField, name)
	}
	return nil, fmt.Errorf("BTF of %s: %w", name, err)
}
