package linux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testELF is a library of three functions, of which the dynamic linker knows one.
// Symbols are in a segment that begins at address 0x10000 and offset 0x1000.
type testELF struct {
	b []byte
}

const (
	elfText     = 0x1000
	elfTextAddr = 0x11000
	elfSymtab   = 0x2000
	elfStrtab   = 0x2100
	elfDynsym   = 0x2200
	elfDynstr   = 0x2300
	elfHash     = 0x2400
	elfDyn      = 0x2500
	elfSections = 0x2600
	elfSize     = 0x3000
	elfDataAddr = 0x20000 - elfSymtab
)

func (e *testELF) put(t testing.TB, off int, v any) {
	t.Helper()
	if _, err := binary.Encode(e.b[off:], binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
}

func newTestELF(t testing.TB) *testELF {
	e := &testELF{make([]byte, elfSize)}
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Phoff: 64, Phentsize: sizeELFSegment, Phnum: 3,
		Shoff: elfSections, Shentsize: sizeELFSection, Shnum: 5,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	e.put(t, 0, h)
	e.put(t, 64, []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: elfText, Vaddr: elfTextAddr, Filesz: 0x1000},
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Off: elfSymtab, Vaddr: elfSymtab + elfDataAddr, Filesz: elfSize - elfSymtab},
		{Type: uint32(elf.PT_DYNAMIC), Off: elfDyn, Filesz: 6 * sizeELFDynamic},
	})
	fn, object := elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)
	copy(e.b[elfStrtab:], "\x00local\x00shared\x00data\x00undefined\x00outside\x00")
	e.put(t, elfSymtab, []elf.Sym64{
		{},
		{Name: 1, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC), Shndx: 1, Value: elfTextAddr + 0x10, Size: 7},
		{Name: 7, Info: fn, Shndx: 1, Value: elfTextAddr + 0x20},
		{Name: 14, Info: object, Shndx: 1, Value: elfTextAddr + 0x30},
		{Name: 19, Info: fn},
		{Name: 29, Info: fn, Shndx: 1, Value: elfTextAddr + 0x1000},
		{Name: 0xffff, Info: fn, Shndx: 1, Value: elfTextAddr},
	})
	copy(e.b[elfDynstr:], "\x00shared\x00used\x00")
	e.put(t, elfDynsym, []elf.Sym64{{}, {Name: 8, Info: fn}, {Name: 1, Info: fn, Shndx: 1, Value: elfTextAddr + 0x20}})
	// One bucket with one chain of one symbol, and a word of the filter.
	e.put(t, elfHash, []uint32{1, 2, 1, 0, 0, 0, 2, 1})
	e.put(t, elfDyn, []elf.Dyn64{
		{Tag: int64(elf.DT_SYMTAB), Val: elfDynsym + elfDataAddr}, {Tag: int64(elf.DT_STRTAB), Val: elfDynstr + elfDataAddr},
		{Tag: int64(elf.DT_STRSZ), Val: 13}, {Tag: int64(elf.DT_GNU_HASH), Val: elfHash + elfDataAddr}, {},
	})
	e.put(t, elfSections, []elf.Section64{
		{},
		{Type: uint32(elf.SHT_SYMTAB), Off: elfSymtab, Size: 7 * sizeELFSymbol, Link: 2},
		{Type: uint32(elf.SHT_STRTAB), Off: elfStrtab, Size: 0x30},
		{Type: uint32(elf.SHT_DYNSYM), Off: elfDynsym, Size: 3 * sizeELFSymbol, Link: 4},
		{Type: uint32(elf.SHT_STRTAB), Off: elfDynstr, Size: 13},
	})
	return e
}

func (e *testELF) functions() (all []Function, err error) {
	f, err := openELF(bytes.NewReader(e.b), int64(len(e.b)))
	if err != nil {
		return nil, err
	}
	err = f.functions(func(fn Function) bool { all = append(all, fn); return true })
	return all, err
}

func TestFunctions(t *testing.T) {
	local, shared := Function{"local", elfText + 0x10, 7}, Function{"shared", elfText + 0x20, 0}
	noSections := func(e *testELF) { e.put(t, 0x28, uint64(0)) }
	for _, tt := range []struct {
		name string
		edit func(e *testELF)
		want []Function
		err  error
	}{
		{"all", func(*testELF) {}, []Function{local, shared}, nil},
		{"without .symtab", func(e *testELF) { e.put(t, elfSections+sizeELFSection+4, uint32(0)) }, []Function{shared}, nil},
		{".symtab beyond the end", func(e *testELF) { e.put(t, elfSections+sizeELFSection+32, uint64(1)<<40) }, []Function{shared}, nil},
		{".symtab compressed", func(e *testELF) { e.put(t, elfSections+sizeELFSection+8, uint64(elf.SHF_COMPRESSED)) }, []Function{shared}, nil},
		{"number of sections elsewhere", func(e *testELF) {
			e.put(t, 0x3c, uint16(0))
			e.put(t, elfSections+32, uint64(5))
		}, []Function{local, shared}, nil},
		{"without sections", noSections, []Function{shared}, nil},
		{"without sections, old hash", func(e *testELF) {
			noSections(e)
			e.put(t, elfDyn+3*sizeELFDynamic, uint64(elf.DT_HASH))
			e.put(t, elfHash, []uint32{1, 3})
		}, []Function{shared}, nil},
		{"stripped", func(e *testELF) {
			noSections(e)
			e.put(t, elfDyn, uint64(0))
		}, nil, ErrStripped},
		{"chain without end", func(e *testELF) {
			noSections(e)
			const at = elfSize - 0x100
			copy(e.b[at:], e.b[elfHash:elfHash+28])
			e.put(t, elfDyn+3*sizeELFDynamic+8, uint64(at+elfDataAddr))
		}, nil, ErrNotELF},
		{"millions of segments", func(e *testELF) { e.put(t, 0x38, uint16(0xffff)) }, nil, ErrNotELF},
		{"millions of sections", func(e *testELF) {
			e.put(t, 0x3c, uint16(0))
			e.put(t, elfSections+32, ^uint64(0))
			e.put(t, elfDyn, uint64(0))
		}, nil, ErrNotELF},
		{"other machine", func(e *testELF) { e.put(t, 0x12, uint16(elf.EM_AARCH64)) }, nil, ErrNotELF},
		{"short", func(e *testELF) { e.b = e.b[:20] }, nil, ErrNotELF},
	} {
		e := newTestELF(t)
		tt.edit(e)
		got, err := e.functions()
		if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// The functions of the go command are those that package debug/elf finds.
func TestFunctionsOfProgram(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("programs here are no ELF files of a guest's kind")
	}
	name, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	r, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	e, err := openELF(r, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var got []Function
	if err := e.functions(func(fn Function) bool { got = append(got, fn); return true }); err != nil {
		if errors.Is(err, ErrStripped) {
			t.Skip("the go command was linked without symbols")
		}
		t.Fatal(err)
	}
	f, err := elf.NewFile(r)
	if err != nil {
		t.Fatal(err)
	}
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var want []Function
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Section == elf.SHN_UNDEF {
			continue
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && s.Value >= p.Vaddr && s.Value < p.Vaddr+p.Filesz {
				want = append(want, Function{s.Name, s.Value - p.Vaddr + p.Off, s.Size})
			}
		}
	}
	if !slices.ContainsFunc(got, func(f Function) bool { return f.Name == "main.main" }) {
		t.Errorf("main is not among %d functions", len(got))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzFunctions reads files that a guest has made up: the library with some of it
// written over in two places.
func FuzzFunctions(f *testing.F) {
	good := newTestELF(f).b
	f.Add(uint16(0), []byte{}, uint16(0), []byte{})
	for _, off := range []uint16{0x28, 0x38, 0x3c, elfDyn, elfHash, elfSections + 32, elfSections + 96} {
		f.Add(off, []byte("\xff\xff\xff\x7f"), uint16(64), []byte{1})
	}
	f.Fuzz(func(t *testing.T, at1 uint16, patch1 []byte, at2 uint16, patch2 []byte) {
		e := &testELF{bytes.Clone(good)}
		copy(e.b[at1%elfSize:], patch1)
		copy(e.b[at2%elfSize:], patch2)
		all, err := e.functions()
		if err != nil && all != nil {
			t.Errorf("%d functions, then %v", len(all), err)
		}
		for _, fn := range all {
			if fn.Name == "" || len(fn.Name) > maxSymbolName {
				t.Errorf("%q", fn.Name)
			}
		}
	})
}
