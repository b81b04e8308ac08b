package linux

import (
	"iter"

	"github.com/govmi/govmi/vmi"
)

// Symbol is a kernel symbol.
type Symbol struct {
	Addr vmi.VirtAddr
	Name string
	// Type is the letter that nm(1) prints: T text, D data, A per-CPU offset.
	Type byte
}

// Symbols is a kernel's symbol table. It is immutable.
type Symbols struct{}

// Lookup returns the address of a symbol: the lowest if several have the
// name. An unknown name is [ErrNoSymbol].
func (s *Symbols) Lookup(name string) (vmi.VirtAddr, error) { return 0, ErrNoSymbol }

// At returns the symbol that va lies in and the offset in it. Of several at
// one address it returns the first. It reports false outside the kernel.
func (s *Symbols) At(va vmi.VirtAddr) (sym Symbol, off uint64, ok bool) { return }

// All yields the symbols in the order of /proc/kallsyms.
func (s *Symbols) All() iter.Seq[Symbol] { return func(func(Symbol) bool) {} }

// Len returns the number of symbols.
func (s *Symbols) Len() int { return 0 }
