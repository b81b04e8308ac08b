package linux

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/govmi/govmi/vmi"
)

// The kernel's compressed symbol table (scripts/kallsyms.c and
// kernel/kallsyms.c of the kernel's source) is a set of read-only arrays, each
// aligned to 8 bytes:
//
//	num_syms      u32
//	names         per symbol a length and as many token numbers; the first
//	              character of the expansion is the symbol's type. The length
//	              is a byte, since 6.1 two if bit 7 of the first is set
//	markers       u32 each: offset in names of every 256th symbol
//	seqs_of_names 3 bytes per symbol, since 6.2
//	token_table   256 NUL-terminated strings
//	token_index   u16 each: offset in token_table of every token
//	offsets       i32 per symbol
//	relative_base u64
//
// Up to 6.3 offsets and relative_base come before num_syms, and 6.2 and 6.3
// have seqs_of_names between markers and token_table; later kernels have the
// order above with seqs_of_names last. No array says where it is. The token
// table is found by its content, the rest from there, and what is taken is
// what fits: an array that is wrong by one byte contradicts another.

const (
	tokenCount     = 256
	maxTokenLen    = 512
	maxSymbolLen   = 1024
	maxSymbols     = 1 << 20
	maxNameBytes   = 64 << 20
	markerInterval = 256
	maxMarkers     = maxSymbols / markerInterval
	// entrySymbol is what MSR LSTAR points to.
	entrySymbol = "entry_SYSCALL_64"
)

// digitTokens is in every token table: the token of a character that symbols
// use is the character itself.
var digitTokens = []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")

var (
	errNoTokenTable = errors.New("no token table")
	errTooMuchWork  = errors.New("too many look-alikes of symbol tables")
)

// effort bounds the search in memory that imitates symbol tables. A genuine
// kernel of 200,000 symbols needs less than a million steps.
type effort int

const maxEffort effort = 100_000_000

func (e *effort) spend(n int) error {
	if *e -= effort(n); *e < 0 {
		return errTooMuchWork
	}
	return nil
}

// tokenTable is a token table found in a piece of memory.
type tokenTable struct {
	tokens     [tokenCount][]byte
	start, end int // of token_table; end is that of token_index
}

// parseTokenTable parses the token table whose digits begin at off. It takes
// it only if a token_index that agrees in all its entries follows.
func parseTokenTable(buf []byte, off int) (*tokenTable, error) {
	start := off
	for range int('0') { // each step goes to the start of the token before
		if start < 2 || buf[start-1] != 0 {
			return nil, errNoTokenTable
		}
		i := bytes.LastIndexByte(buf[max(0, start-1-maxTokenLen):start-1], 0)
		if i < 0 {
			return nil, errNoTokenTable
		}
		start = max(0, start-1-maxTokenLen) + i + 1
	}
	t := &tokenTable{start: start}
	if start%8 != 0 {
		return nil, errNoTokenTable
	}
	var index [2 * tokenCount]byte
	end := start
	for i := range t.tokens {
		binary.LittleEndian.PutUint16(index[2*i:], uint16(end-start))
		n := bytes.IndexByte(buf[end:min(len(buf), end+maxTokenLen)], 0)
		if n < 0 || end-start > 0xffff {
			return nil, errNoTokenTable
		}
		t.tokens[i] = buf[end : end+n]
		end += n + 1
	}
	end = alignUp(end)
	if len(buf)-end < len(index) || !bytes.Equal(buf[end:end+len(index)], index[:]) {
		return nil, errNoTokenTable
	}
	t.end = end + len(index)
	return t, nil
}

func alignUp(n int) int { return (n + 7) &^ 7 }

// kallsymsLayout says where the arrays are, as offsets in the buffer.
type kallsymsLayout struct {
	names, numSyms int
	markers        []uint32
	namesEnd       int // at most 7 bytes of padding above the last name
	longNames      bool
}

// decodeKallsyms decodes the symbol table around the token table tt in buf,
// whose first byte is at address base. The result is genuine.
func decodeKallsyms(buf []byte, tt *tokenTable, base vmi.VirtAddr, genuine func(*Symbols) bool, e *effort) (*Symbols, error) {
	lay, err := findNames(buf, tt.start, e)
	if err != nil {
		return nil, err
	}
	s, err := expandNames(buf, lay, tt)
	if err != nil {
		return nil, err
	}
	for _, read := range offsetReaders(buf, lay, tt, base) {
		if addrs := read(s.Len()); addrs != nil && s.setAddrs(addrs) && genuine(s) {
			return s, nil
		}
	}
	return nil, errors.New("no offset table that fits the names")
}

var errNoNames = errors.New("no name table before the token table")

// findNames finds markers, names and num_syms before the token table at
// limit.
func findNames(buf []byte, limit int, e *effort) (kallsymsLayout, error) {
	lay, err := namesBelow(buf, limit, e)
	if !errors.Is(err, errNoNames) {
		return lay, err
	}
	// 6.2 and 6.3: seqs_of_names lies between, as long as it takes.
	for gap := 8; gap < limit && gap <= 3*maxSymbols; gap += 8 {
		lay, err := namesBelow(buf, limit-gap, e)
		if err == nil && alignUp(3*lay.numSyms) == gap || errors.Is(err, errTooMuchWork) {
			return lay, err
		}
	}
	return kallsymsLayout{}, errNoNames
}

// namesBelow tries markers that end at limit or one padding word below.
func namesBelow(buf []byte, limit int, e *effort) (lay kallsymsLayout, err error) {
	start, count := markersBelow(buf, limit)
	if err := e.spend(1 + count); err != nil {
		return lay, err
	}
	if count < 2 || start%8 != 0 {
		return lay, errNoNames
	}
	lay.namesEnd = start
	lay.markers = make([]uint32, count)
	for i := range lay.markers {
		lay.markers[i] = word(buf, start+4*i)
	}
	// The last block's length is not known; num_syms and padding stand before
	// the names.
	last := int(lay.markers[count-1])
	lowest := max(8, start-last-markerInterval*(2+maxTokenLen))
	for names := (start - last - 2) &^ 7; names >= lowest; names -= 8 {
		if word(buf, names-4) != 0 {
			continue
		}
		n := int(word(buf, names-8))
		if n > maxSymbols || (n+markerInterval-1)/markerInterval != count {
			continue
		}
		lay.names, lay.numSyms = names, n
		for _, lay.longNames = range []bool{true, false} {
			ok, steps := lay.check(buf)
			if err := e.spend(steps); err != nil {
				return lay, err
			}
			if ok {
				return lay, nil
			}
		}
	}
	return lay, errNoNames
}

// markersBelow returns the start and number of what can be markers that end
// at limit or one padding word below. Downwards they fall to 0, by a plausible
// length of 256 names each. The number is 0 if there are none.
func markersBelow(buf []byte, limit int) (start, count int) {
	if limit < 64 {
		return 0, 0
	}
	end := limit
	if word(buf, end-4) == 0 {
		end -= 4
	}
	var next uint32
	for start = end - 4; start >= 8 && count < maxMarkers; start -= 4 {
		m := word(buf, start)
		if count > 0 && (m >= next || next-m < 2*markerInterval || next-m > markerInterval*(2+maxTokenLen)) {
			return 0, 0
		}
		count++
		if m == 0 {
			return start, count
		}
		next = m
	}
	return 0, 0
}

func word(buf []byte, off int) uint32 { return binary.LittleEndian.Uint32(buf[off:]) }

// next returns the tokens of the name at off and where the next name begins.
func (lay *kallsymsLayout) next(buf []byte, off int) (tokens []byte, after int, ok bool) {
	if off >= lay.namesEnd {
		return nil, 0, false
	}
	n := int(buf[off])
	off++
	if lay.longNames && n&0x80 != 0 {
		if off >= lay.namesEnd {
			return nil, 0, false
		}
		n = n&0x7f | int(buf[off])<<7
		off++
	}
	if n == 0 || n > lay.namesEnd-off {
		return nil, 0, false
	}
	return buf[off : off+n], off + n, true
}

// check reports whether the names agree with all markers and fill the space,
// and how many names it looked at.
func (lay *kallsymsLayout) check(buf []byte) (ok bool, steps int) {
	off := lay.names
	for i := range lay.numSyms {
		if i%markerInterval == 0 && off-lay.names != int(lay.markers[i/markerInterval]) {
			return false, i
		}
		if _, off, ok = lay.next(buf, off); !ok {
			return false, i
		}
	}
	return lay.namesEnd-off < 8, lay.numSyms
}

// expandNames decompresses all names.
func expandNames(buf []byte, lay kallsymsLayout, tt *tokenTable) (*Symbols, error) {
	b := newSymbolsBuilder(lay.numSyms)
	off := lay.names
	var name [maxSymbolLen]byte
	for range lay.numSyms {
		tokens, after, ok := lay.next(buf, off)
		if !ok {
			return nil, errors.New("name table is cut short")
		}
		n := 0
		for _, t := range tokens {
			tok := tt.tokens[t]
			if n+len(tok) > len(name) {
				return nil, errors.New("symbol name is too long")
			}
			n += copy(name[n:], tok)
		}
		if n < 2 {
			return nil, errors.New("empty symbol name")
		}
		if err := b.add(name[0], name[1:n]); err != nil {
			return nil, err
		}
		off = after
	}
	return b.symbols(), nil
}

// offsetReaders returns the ways to read the symbols' addresses, each of which
// returns nil if its tables do not fit in buf.
func offsetReaders(buf []byte, lay kallsymsLayout, tt *tokenTable, base vmi.VirtAddr) []func(n int) []vmi.VirtAddr {
	type place struct {
		offsets, relBase int
	}
	size := alignUp(4 * lay.numSyms)
	before := place{lay.names - 16 - size, lay.names - 16}
	after := place{alignUp(tt.end), alignUp(tt.end) + size}

	type address func(p place, i int, off uint32) vmi.VirtAddr
	rel := func(p place) vmi.VirtAddr { return vmi.VirtAddr(binary.LittleEndian.Uint64(buf[p.relBase:])) }
	// Up to 6.14: a value that is not negative is absolute (per-CPU), the
	// others count down from the base less one.
	absolutePerCPU := func(p place, _ int, off uint32) vmi.VirtAddr {
		if int32(off) >= 0 {
			return vmi.VirtAddr(off)
		}
		return rel(p) - 1 - vmi.VirtAddr(int64(int32(off)))
	}
	relative := func(p place, _ int, off uint32) vmi.VirtAddr { return rel(p) + vmi.VirtAddr(off) }
	// Without a base an offset counts from its own place.
	toPlace := func(p place, i int, off uint32) vmi.VirtAddr {
		return base + vmi.VirtAddr(p.offsets+4*i) + vmi.VirtAddr(int64(int32(off)))
	}

	reader := func(p place, f address, hasBase bool) func(int) []vmi.VirtAddr {
		return func(n int) []vmi.VirtAddr {
			if p.offsets < 0 || p.offsets+4*n > len(buf) || hasBase && p.relBase+8 > len(buf) {
				return nil
			}
			addrs := make([]vmi.VirtAddr, n)
			for i := range addrs {
				addrs[i] = f(p, i, word(buf, p.offsets+4*i))
			}
			return addrs
		}
	}
	noBase := place{lay.names - 8 - size, 0}
	return []func(int) []vmi.VirtAddr{
		reader(before, absolutePerCPU, true),
		reader(after, absolutePerCPU, true),
		reader(after, relative, true),
		reader(before, relative, true),
		reader(after, toPlace, false),
		reader(noBase, toPlace, false),
	}
}
