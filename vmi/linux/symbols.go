package linux

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"sort"

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
type Symbols struct {
	names   string // all names, one after the other
	nameEnd []uint32
	types   []byte
	addrs   []vmi.VirtAddr // ascending
	end     vmi.VirtAddr   // first address above the kernel

	// index is a hash table with linear probing of symbol numbers plus one.
	// The seed is random: names come from the guest.
	index []uint32
	seed  maphash.Seed
}

func (s *Symbols) name(i int) string {
	start := uint32(0)
	if i > 0 {
		start = s.nameEnd[i-1]
	}
	return s.names[start:s.nameEnd[i]]
}

func (s *Symbols) at(i int) Symbol { return Symbol{s.addrs[i], s.name(i), s.types[i]} }

// slot returns the place of a name in the index, or the free one where it
// belongs.
func (s *Symbols) slot(name string) int {
	mask := len(s.index) - 1
	h := int(maphash.String(s.seed, name)) & mask
	for s.index[h] != 0 && s.name(int(s.index[h]-1)) != name {
		h = (h + 1) & mask
	}
	return h
}

// Lookup returns the address of a symbol: the lowest if several have the
// name. An unknown name is [ErrNoSymbol].
func (s *Symbols) Lookup(name string) (vmi.VirtAddr, error) {
	if i := s.index[s.slot(name)]; i != 0 {
		return s.addrs[i-1], nil
	}
	return 0, fmt.Errorf("%w: %s", ErrNoSymbol, name)
}

// find returns the number of the first symbol above va.
func (s *Symbols) find(va vmi.VirtAddr) int {
	return sort.Search(len(s.addrs), func(i int) bool { return s.addrs[i] > va })
}

// At returns the symbol that va lies in and the offset in it. Of several at
// one address it returns the first. It reports false outside the kernel.
func (s *Symbols) At(va vmi.VirtAddr) (sym Symbol, off uint64, ok bool) {
	i := s.find(va) - 1
	if i < 0 || va < imageStart || va >= s.end || s.addrs[i] < imageStart {
		return Symbol{}, 0, false
	}
	for i > 0 && s.addrs[i-1] == s.addrs[i] {
		i--
	}
	return s.at(i), uint64(va - s.addrs[i]), true
}

// startingAt yields the symbols whose address is va.
func (s *Symbols) startingAt(va vmi.VirtAddr) iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		i := sort.Search(len(s.addrs), func(i int) bool { return s.addrs[i] >= va })
		for ; i < len(s.addrs) && s.addrs[i] == va; i++ {
			if !yield(s.at(i)) {
				return
			}
		}
	}
}

// after returns the lowest symbol address above va, or va if there is none.
func (s *Symbols) after(va vmi.VirtAddr) vmi.VirtAddr {
	if i := s.find(va); i < len(s.addrs) {
		return s.addrs[i]
	}
	return va
}

// All yields the symbols in the order of /proc/kallsyms.
func (s *Symbols) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for i := range s.addrs {
			if !yield(s.at(i)) {
				return
			}
		}
	}
}

// Len returns the number of symbols.
func (s *Symbols) Len() int { return len(s.nameEnd) }

type symbolsBuilder struct {
	s     *Symbols
	names bytes.Buffer
}

func newSymbolsBuilder(n int) *symbolsBuilder {
	b := &symbolsBuilder{s: &Symbols{
		nameEnd: make([]uint32, 0, n),
		types:   make([]byte, 0, n),
	}}
	b.names.Grow(min(n, maxSymbols) * 24) // the mean is about 20
	return b
}

func (b *symbolsBuilder) add(typ byte, name []byte) error {
	if b.names.Len()+len(name) > maxNameBytes {
		return errors.New("symbol names are too long")
	}
	b.names.Write(name)
	b.s.types = append(b.s.types, typ)
	b.s.nameEnd = append(b.s.nameEnd, uint32(b.names.Len()))
	return nil
}

func (b *symbolsBuilder) symbols() *Symbols {
	b.s.names = b.names.String()
	return b.s
}

// setAddrs completes the table. It reports false, and leaves the table as it
// was, if addresses are not ascending.
func (s *Symbols) setAddrs(addrs []vmi.VirtAddr) bool {
	for i := 1; i < len(addrs); i++ {
		if addrs[i] < addrs[i-1] {
			return false
		}
	}
	s.addrs = addrs
	s.seed = maphash.MakeSeed()
	size := 1
	for size < 2*len(addrs) {
		size *= 2
	}
	s.index = make([]uint32, size)
	for i := range addrs {
		// The first of several equal names stays, so that a guest cannot make
		// this quadratic.
		if h := s.slot(s.name(i)); s.index[h] == 0 {
			s.index[h] = uint32(i + 1)
		}
	}
	s.end = addrs[len(addrs)-1]
	if end, err := s.Lookup("_end"); err == nil && end > imageStart {
		s.end = end
	}
	return true
}
