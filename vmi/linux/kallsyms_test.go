package linux

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
)

const testEntry vmi.VirtAddr = 0xffffffff97a00080

// testSymbols returns n symbols in the order of /proc/kallsyms, with those
// that the tests look for.
func testSymbols(n int, v kallsymsVariant) []Symbol {
	rnd := rand.New(rand.NewPCG(1, 2))
	var syms []Symbol
	if v.offsets == absolutePerCPU {
		syms = append(syms,
			Symbol{0, "fixed_percpu_data", 'A'},
			Symbol{0, "__per_cpu_start", 'A'},
			Symbol{0x1ac40, "current_task", 'A'})
	}
	addr := vmi.VirtAddr(0xffffffff97000000)
	syms = append(syms, Symbol{addr, "_text", 'T'}, Symbol{addr, "_stext", 'T'})
	for i := len(syms); i < n; i++ {
		name := fmt.Sprintf("%s_%s%d", bigrams[rnd.IntN(len(bigrams))], bigrams[rnd.IntN(len(bigrams))], i)
		switch {
		case i%97 == 0:
			name = "__key" // as static variables of one name
		case v.longNames && i%101 == 0:
			name = strings.Repeat("Zq", 60+i%80) + name // not compressible
		}
		addr += vmi.VirtAddr(rnd.IntN(128))
		if syms[i-1].Addr < testEntry && addr >= testEntry {
			syms = append(syms, Symbol{testEntry, "__entry_text_start", 'T'}, Symbol{testEntry, entrySymbol, 'T'})
			i += 2
			addr = testEntry + 0x40
		}
		syms = append(syms, Symbol{addr, name, "tTdDrRbB"[i%8]})
	}
	if addr < testEntry {
		syms = append(syms, Symbol{testEntry, entrySymbol, 'T'})
	}
	return append(syms, Symbol{testEntry + 0x2000000, "_end", 'B'})
}

// surround puts other data around the tables, as the kernel's is.
func surround(tables []byte) (buf []byte, before int) {
	rnd := rand.New(rand.NewPCG(3, 4))
	junk := make([]byte, 4096)
	for i := range junk {
		junk[i] = byte(rnd.Uint32())
	}
	return slices.Concat(junk, tables, junk), len(junk)
}

// decode finds and decodes the tables in buf.
func decode(buf []byte, base, entry vmi.VirtAddr) (*Symbols, error) {
	at := bytes.Index(buf, digitTokens)
	if at < 0 {
		return nil, errNoTokenTable
	}
	tt, err := parseTokenTable(buf, at)
	if err != nil {
		return nil, err
	}
	work := maxEffort
	genuine := func(s *Symbols) bool { return isKernels(vmi.AddressSpace{}, s, entry) }
	return decodeKallsyms(buf, tt, base, genuine, &work)
}

func TestKallsymsLayouts(t *testing.T) {
	const base vmi.VirtAddr = 0xffffffff98000000
	for _, v := range kallsymsVariants {
		for _, n := range []int{300, 512, 513, 5001} {
			want := testSymbols(n, v)
			buf, before := surround(encodeKallsyms(want, v, base+4096))
			if before != 4096 {
				t.Fatal("tables are not where they were encoded for")
			}
			s, err := decode(buf, base, testEntry)
			if err != nil {
				t.Errorf("%s, %d symbols: %v", v.name, n, err)
				continue
			}
			if d := cmp.Diff(want, slices.Collect(s.All())); d != "" {
				t.Errorf("%s, %d symbols: %s", v.name, n, d)
			}
			if s.Len() != len(want) {
				t.Errorf("%s: Len = %d, want %d", v.name, s.Len(), len(want))
			}
		}
	}
}

func TestSymbolsLookup(t *testing.T) {
	v := kallsymsVariants[1]
	want := testSymbols(3000, v)
	buf, _ := surround(encodeKallsyms(want, v, 0xffffffff98001000))
	s, err := decode(buf, 0xffffffff98000000, testEntry)
	if err != nil {
		t.Fatal(err)
	}
	first := make(map[string]vmi.VirtAddr)
	for _, w := range slices.Backward(want) {
		first[w.Name] = w.Addr
	}
	for name, addr := range first {
		if got, err := s.Lookup(name); err != nil || got != addr {
			t.Errorf("Lookup(%q) = %v, %v, want %v", name, got, err, addr)
		}
	}
	for _, name := range []string{"", "no_such_symbol", "T_text"} {
		if _, err := s.Lookup(name); !errors.Is(err, ErrNoSymbol) {
			t.Errorf("Lookup(%q): %v", name, err)
		}
	}

	at := func(va vmi.VirtAddr, name string, off uint64, ok bool) {
		t.Helper()
		sym, gotOff, gotOK := s.At(va)
		if sym.Name != name || gotOff != off || gotOK != ok {
			t.Errorf("At(%v) = %v, %#x, %v, want %s, %#x, %v", va, sym, gotOff, gotOK, name, off, ok)
		}
	}
	at(0xffffffff97000000, "_text", 0, true) // the first of two
	at(testEntry+4, entrySymbol, 4, true)
	end, _ := s.Lookup("_end")
	at(end, "", 0, false)
	at(0x1ac40, "", 0, false) // a per-CPU offset is no address
	at(0xffffffff96ffffff, "", 0, false)
	at(^vmi.VirtAddr(0), "", 0, false)
}

func TestKallsymsRejects(t *testing.T) {
	v := kallsymsVariants[1]
	syms := testSymbols(3000, v)
	good := encodeKallsyms(syms, v, 0)
	for _, tt := range []struct {
		name  string
		edit  func(p []byte) []byte
		entry vmi.VirtAddr
	}{
		{"wrong entry point", nil, testEntry + 1},
		{"entry point of another symbol", nil, 0xffffffff97000000},
		{"no digits", func(p []byte) []byte { return bytes.ReplaceAll(p, digitTokens, make([]byte, len(digitTokens))) }, testEntry},
		{"token index off by one", func(p []byte) []byte { p[len(p)-100]++; return p }, testEntry},
		{"cut in the token index", func(p []byte) []byte { return p[:len(p)-8] }, testEntry},
		{"symbol count off by one", func(p []byte) []byte { p[alignUp(4*len(syms))+8]++; return p }, testEntry},
		{"name length changed", func(p []byte) []byte { p[alignUp(4*len(syms))+16]++; return p }, testEntry},
		{"offset changed", func(p []byte) []byte { p[4*2000+2] ^= 0x40; return p }, testEntry},
		{"cut before the names", func(p []byte) []byte { return p[alignUp(4*len(syms))+16:] }, testEntry},
		{"cut before the base", func(p []byte) []byte { return p[alignUp(4*len(syms))+8:] }, testEntry},
	} {
		p := slices.Clone(good)
		if tt.edit != nil {
			p = tt.edit(p)
		}
		if s, err := decode(p, 0xffffffff98000000, tt.entry); err == nil {
			t.Errorf("%s: decoded %d symbols", tt.name, s.Len())
		}
	}
	if _, err := decode(good, 0xffffffff98000000, testEntry); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// FuzzKallsyms changes tables of each layout, and the buffer's end.
func FuzzKallsyms(f *testing.F) {
	var good [][]byte
	for i, v := range kallsymsVariants {
		good = append(good, encodeKallsyms(testSymbols(600, v), v, 0xffffffff98000000))
		f.Add(uint8(i), uint32(0), uint32(8), []byte{1}, uint32(0))
	}
	f.Fuzz(func(t *testing.T, variant uint8, at, at2 uint32, patch []byte, cut uint32) {
		buf := slices.Clone(good[int(variant)%len(good)])
		for _, at := range []uint32{at, at2} {
			for i, b := range patch {
				buf[(int(at)+i)%len(buf)] ^= b
			}
		}
		buf = buf[:len(buf)-int(cut)%len(buf)]
		s, err := decode(buf, 0xffffffff98000000, testEntry)
		if err != nil {
			return
		}
		n := 0
		for sym := range s.All() {
			if _, err := s.Lookup(sym.Name); err != nil {
				t.Fatalf("%v cannot be looked up: %v", sym, err)
			}
			s.At(sym.Addr)
			n++
		}
		if n != s.Len() {
			t.Fatalf("%d symbols of %d", n, s.Len())
		}
	})
}

func BenchmarkKallsymsDecode(b *testing.B) {
	v := kallsymsVariants[3]
	buf := encodeKallsyms(testSymbols(100000, v), v, 0xffffffff98000000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(buf, 0xffffffff98000000, testEntry); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbolsLookup(b *testing.B) {
	v := kallsymsVariants[3]
	s, err := decode(encodeKallsyms(testSymbols(100000, v), v, 0xffffffff98000000), 0xffffffff98000000, testEntry)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Lookup(entrySymbol); err != nil {
			b.Fatal(err)
		}
		if _, _, ok := s.At(testEntry + 5); !ok {
			b.Fatal("no symbol at the entry point")
		}
	}
}
