package linux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Function is a function of a program or of a library, by its symbol.
type Function struct {
	Name string
	// Offset is where in the file it begins, see [MappedFile.Addr]; Size is 0 if
	// the file does not tell.
	Offset, Size uint64
}

// Functions yields the functions that the file defines, in the order of its
// symbol table: the whole one, or that of the dynamic linker if the other is not
// there or not in memory, which is usual for what only a debugger reads. A name
// may come more than once. The error matches [ErrNotELF], [ErrStripped] and
// [ErrNotCached].
func (f *MappedFile) Functions() iter.Seq2[Function, error] {
	return func(yield func(Function, error) bool) {
		e, err := openELF(f, f.Size)
		if err == nil {
			err = e.functions(func(fn Function) bool { return yield(fn, nil) })
		}
		if err != nil {
			yield(Function{}, fmt.Errorf("%s: %w", f.Path, err))
		}
	}
}

const (
	// maxTable bounds a symbol table, and the names in it, in bytes.
	maxTable    = 64 << 20
	maxSections = 1 << 16
	// maxDynamic bounds what is told to the dynamic linker; a library has some
	// 30 entries.
	maxDynamic = 1 << 12

	sizeELFSymbol  = 24
	sizeELFSection = 64
	sizeELFSegment = 56
	sizeELFDynamic = 16
)

// elfFile reads a file of the guest's: package debug/elf takes such sizes and
// compression as the file says.
type elfFile struct {
	r        io.ReaderAt
	size     int64
	header   elf.Header64
	segments []elf.Prog64
}

func openELF(r io.ReaderAt, size int64) (*elfFile, error) {
	e := &elfFile{r: r, size: size}
	if size < int64(binary.Size(e.header)) {
		return nil, ErrNotELF
	}
	b, err := e.read(0, uint64(binary.Size(e.header)))
	if err != nil {
		return nil, err
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &e.header); err != nil {
		return nil, err
	}
	h := &e.header
	if string(h.Ident[:4]) != elf.ELFMAG || elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB || elf.Machine(h.Machine) != elf.EM_X86_64 {
		return nil, ErrNotELF
	}
	if h.Phnum > 0 && h.Phentsize != sizeELFSegment {
		return nil, fmt.Errorf("%w: segments of %d bytes", ErrNotELF, h.Phentsize)
	}
	e.segments, err = table[elf.Prog64](e, h.Phoff, uint64(h.Phnum))
	return e, err
}

// read reads a part of the file whole.
func (e *elfFile) read(off, size uint64) ([]byte, error) {
	if off > uint64(e.size) || size > uint64(e.size)-off {
		return nil, fmt.Errorf("%w: %#x bytes at %#x are beyond its end", ErrNotELF, size, off)
	}
	if size > maxTable {
		return nil, fmt.Errorf("%w: table of %d bytes", ErrNotELF, size)
	}
	b := make([]byte, size)
	if n, err := e.r.ReadAt(b, int64(off)); n < len(b) {
		return nil, err
	}
	return b, nil
}

// table reads n structures.
func table[T any](e *elfFile, off, n uint64) ([]T, error) {
	var one T
	b, err := e.read(off, n*uint64(binary.Size(one)))
	if err != nil {
		return nil, err
	}
	all := make([]T, n)
	_, err = binary.Decode(b, binary.LittleEndian, all)
	return all, err
}

// offset returns where in the file a segment of a type's permissions has an
// address.
func (e *elfFile) offset(addr uint64, flags elf.ProgFlag) (uint64, bool) {
	for _, s := range e.segments {
		if elf.ProgType(s.Type) == elf.PT_LOAD && elf.ProgFlag(s.Flags)&flags == flags && addr >= s.Vaddr && addr-s.Vaddr < s.Filesz {
			return s.Off + addr - s.Vaddr, true
		}
	}
	return 0, false
}

// functions yields from the first table that can be read.
func (e *elfFile) functions(yield func(Function) bool) error {
	var errs []error
	for _, find := range []func() (symbols, names []byte, err error){
		func() (symbols, names []byte, err error) { return e.section(elf.SHT_SYMTAB) },
		func() (symbols, names []byte, err error) { return e.section(elf.SHT_DYNSYM) },
		e.dynamic,
	} {
		symbols, names, err := find()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for ; len(symbols) >= sizeELFSymbol; symbols = symbols[sizeELFSymbol:] {
			if fn, ok := e.function(symbols, names); ok && !yield(fn) {
				return nil
			}
		}
		return nil
	}
	// The last says least where it is not stripped but not in memory either.
	for _, err := range errs {
		if !errors.Is(err, ErrStripped) {
			return err
		}
	}
	return ErrStripped
}

// function decodes a symbol, of functions that are in the file.
func (e *elfFile) function(b, names []byte) (Function, bool) {
	var s elf.Sym64
	s.Name = binary.LittleEndian.Uint32(b)
	s.Info, s.Shndx = b[4], binary.LittleEndian.Uint16(b[6:])
	s.Value, s.Size = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if elf.ST_TYPE(s.Info) != elf.STT_FUNC || elf.SectionIndex(s.Shndx) == elf.SHN_UNDEF || uint64(s.Name) >= uint64(len(names)) {
		return Function{}, false
	}
	off, ok := e.offset(s.Value, elf.PF_X)
	name, _, terminated := bytes.Cut(names[s.Name:][:min(maxSymbolName, len(names)-int(s.Name))], []byte{0})
	if !ok || !terminated || len(name) == 0 {
		return Function{}, false
	}
	return Function{Name: string(name), Offset: off, Size: s.Size}, true
}

// maxSymbolName bounds a name; C++ has long ones.
const maxSymbolName = 4 << 10

// section returns the contents of a symbol table and of its strings.
func (e *elfFile) section(kind elf.SectionType) (symbols, names []byte, err error) {
	h := &e.header
	if h.Shoff == 0 || h.Shentsize != sizeELFSection {
		return nil, nil, ErrStripped
	}
	n := uint64(h.Shnum)
	if n == 0 { // more than the header can say
		first, err := table[elf.Section64](e, h.Shoff, 1)
		if err != nil {
			return nil, nil, err
		}
		n = first[0].Size
	}
	if n > maxSections {
		return nil, nil, fmt.Errorf("%w: %d sections", ErrNotELF, n)
	}
	all, err := table[elf.Section64](e, h.Shoff, n)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range all {
		if elf.SectionType(s.Type) != kind {
			continue
		}
		if uint64(s.Link) >= n || elf.SectionType(all[s.Link].Type) != elf.SHT_STRTAB || elf.SectionFlag(s.Flags|all[s.Link].Flags)&elf.SHF_COMPRESSED != 0 {
			return nil, nil, fmt.Errorf("%w: symbols without names", ErrNotELF)
		}
		if symbols, err = e.read(s.Off, s.Size); err != nil {
			return nil, nil, err
		}
		names, err = e.read(all[s.Link].Off, all[s.Link].Size)
		return symbols, names, err
	}
	return nil, nil, ErrStripped
}

// dynamic is section of what the dynamic linker uses, which a file has without
// sections as well.
func (e *elfFile) dynamic() (symbols, names []byte, err error) {
	var entries []elf.Dyn64
	for _, s := range e.segments {
		if elf.ProgType(s.Type) == elf.PT_DYNAMIC {
			if entries, err = table[elf.Dyn64](e, s.Off, min(s.Filesz/sizeELFDynamic, maxDynamic)); err != nil {
				return nil, nil, err
			}
		}
	}
	at := make(map[elf.DynTag]uint64)
	for _, d := range entries {
		if elf.DynTag(d.Tag) == elf.DT_NULL {
			break
		}
		at[elf.DynTag(d.Tag)] = d.Val
	}
	if at[elf.DT_SYMTAB] == 0 || at[elf.DT_STRTAB] == 0 {
		return nil, nil, ErrStripped
	}
	n, err := e.dynamicCount(at)
	if err != nil {
		return nil, nil, err
	}
	if symbols, err = e.loaded(at[elf.DT_SYMTAB], n*sizeELFSymbol); err != nil {
		return nil, nil, err
	}
	names, err = e.loaded(at[elf.DT_STRTAB], at[elf.DT_STRSZ])
	return symbols, names, err
}

// loaded reads what is at an address.
func (e *elfFile) loaded(addr, size uint64) ([]byte, error) {
	off, ok := e.offset(addr, 0)
	if !ok {
		return nil, fmt.Errorf("%w: address %#x is not in it", ErrNotELF, addr)
	}
	return e.read(off, size)
}

// dynamicCount is the number of the dynamic linker's symbols, which only its hash
// tables tell.
func (e *elfFile) dynamicCount(at map[elf.DynTag]uint64) (uint64, error) {
	const limit = maxTable / sizeELFSymbol
	if hash := at[elf.DT_HASH]; hash != 0 {
		b, err := e.loaded(hash, 8)
		if err != nil {
			return 0, err
		}
		return min(uint64(binary.LittleEndian.Uint32(b[4:])), limit+1), nil
	}
	hash := at[elf.DT_GNU_HASH]
	if hash == 0 {
		return 0, ErrStripped
	}
	b, err := e.loaded(hash, 16)
	if err != nil {
		return 0, err
	}
	buckets, first, bloom := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	chains := hash + 16 + 8*uint64(bloom)
	if b, err = e.loaded(chains, 4*uint64(buckets)); err != nil {
		return 0, err
	}
	last := uint32(0) // the chain that begins last is the last
	for ; len(b) >= 4; b = b[4:] {
		last = max(last, binary.LittleEndian.Uint32(b))
	}
	if last < first {
		return uint64(first), nil // nothing but what is used of others
	}
	chains += 4 * uint64(buckets)
	for n := uint64(last); n < limit; n++ {
		if b, err = e.loaded(chains+4*(n-uint64(first)), 4); err != nil {
			return 0, err
		}
		if b[0]&1 != 0 {
			return n + 1, nil
		}
	}
	return 0, fmt.Errorf("%w: symbols without end", ErrNotELF)
}
