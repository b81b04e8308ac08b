package linux

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

type moduleSymbolFields struct {
	Kallsyms Field `btf:"module.kallsyms"`
	Table    Field `btf:"mod_kallsyms.symtab"`
	Count    Field `btf:"mod_kallsyms.num_symtab"`
	Names    Field `btf:"mod_kallsyms.strtab"`
	Types    Field `btf:"mod_kallsyms.typetab"`
}

// Of struct elf64_sym, which ELF fixes.
const (
	elfSymSize  = 24
	elfSymValue = 8
)

// ModuleSymbols yields the module's symbols, in the order of /proc/kallsyms.
func (k *Kernel) ModuleSymbols(m Module) iter.Seq2[Symbol, error] {
	return func(yield func(Symbol, error) bool) {
		err := k.moduleSymbols(m, yield)
		if err != nil {
			yield(Symbol{}, fmt.Errorf("symbols of module %s: %w", m.Name, err))
		}
	}
}

func (k *Kernel) moduleSymbols(m Module, yield func(Symbol, error) bool) error {
	f, err := k.fields.moduleSymbol.of(k)
	if err != nil {
		return err
	}
	r := &reader{s: k.as}
	at := r.ptr(f.Kallsyms, m.Addr)
	if at == 0 {
		return r.err
	}
	table, names, types := r.ptr(f.Table, at), r.ptr(f.Names, at), r.ptr(f.Types, at)
	n := r.uint(f.Count, at)
	if r.err != nil {
		return r.err
	}
	if n > maxSymbols {
		return fmt.Errorf("%w: %d symbols", ErrCorrupt, n)
	}
	var sym [elfSymSize]byte
	for i := range n {
		if _, err := k.as.Read(table+vmi.VirtAddr(i*elfSymSize), sym[:]); err != nil {
			return err
		}
		name := r.cstring(names+vmi.VirtAddr(binary.LittleEndian.Uint32(sym[:])), maxSymbolLen)
		kind, err := k.as.Uint8(types + vmi.VirtAddr(i))
		if r.fail(err); r.err != nil {
			return r.err
		}
		if name == "" {
			continue
		}
		if !yield(Symbol{vmi.VirtAddr(binary.LittleEndian.Uint64(sym[elfSymValue:])), name, kind}, nil) {
			return nil
		}
	}
	return nil
}
