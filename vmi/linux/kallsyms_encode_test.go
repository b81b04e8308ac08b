package linux

import (
	"encoding/binary"
	"sort"
	"strings"

	"github.com/govmi/govmi/vmi"
)

// kallsymsVariant is a layout of the kernel's symbol tables, written as the
// kernel's build does it; see the list in kallsyms.go.
type kallsymsVariant struct {
	name        string
	longNames   bool // 6.1 on
	seqsBetween bool // 6.2, 6.3
	offsetsLast bool // 6.4 on
	offsets     string
}

const (
	absolutePerCPU = "absolute per-CPU"
	relativeOnly   = "relative"
	toPlace        = "to place"
)

var kallsymsVariants = []kallsymsVariant{
	{"5.10", false, false, false, absolutePerCPU},
	{"6.1", true, false, false, absolutePerCPU},
	{"6.2", true, true, false, absolutePerCPU},
	{"6.4", true, false, true, absolutePerCPU},
	{"6.15", true, false, true, relativeOnly},
	{"place", true, false, true, toPlace},
	{"place before", true, false, false, toPlace},
}

// bigrams are the tokens of bytes that no symbol has.
var bigrams = strings.Fields("__ sy ys s_ _s re ge et t_ ta as sk fi in ni it tr te er io on ca al ll se en nt ru st le")

func testTokens() (tokens [tokenCount]string) {
	next := 0
	for i := range tokens {
		if i > ' ' && i <= '~' {
			tokens[i] = string(rune(i))
			continue
		}
		tokens[i] = bigrams[next%len(bigrams)]
		if next >= len(bigrams) {
			tokens[i] += "_"
		}
		next++
	}
	return tokens
}

// compress returns the token numbers of a string.
func compress(tokens *[tokenCount]string, s string) (out []byte) {
	numbers := make(map[string]byte)
	for i, t := range tokens {
		numbers[t] = byte(i)
	}
	for len(s) > 0 {
		if len(s) > 1 {
			if n, ok := numbers[s[:2]]; ok {
				out, s = append(out, n), s[2:]
				continue
			}
		}
		out, s = append(out, numbers[s[:1]]), s[1:]
	}
	return out
}

// encodeKallsyms returns the tables for symbols in ascending order. start is
// the address that they will be at, which is aligned to 8 bytes.
func encodeKallsyms(syms []Symbol, v kallsymsVariant, start vmi.VirtAddr) []byte {
	tokens := testTokens()
	var out []byte
	align := func() {
		for len(out)%8 != 0 {
			out = append(out, 0)
		}
	}
	put32 := func(x uint32) { out = binary.LittleEndian.AppendUint32(out, x) }
	var base vmi.VirtAddr // the lowest that is not absolute
	for _, s := range syms {
		if s.Addr >= imageStart || v.offsets == relativeOnly {
			base = s.Addr
			break
		}
	}
	offsets := func() {
		align()
		for _, s := range syms {
			switch {
			case v.offsets == toPlace:
				put32(uint32(s.Addr - start - vmi.VirtAddr(len(out))))
			case v.offsets == relativeOnly:
				put32(uint32(s.Addr - base))
			case s.Addr < imageStart:
				put32(uint32(s.Addr))
			default:
				put32(uint32(base - 1 - s.Addr))
			}
		}
		align()
		if v.offsets != toPlace {
			out = binary.LittleEndian.AppendUint64(out, uint64(base))
		}
	}
	seqs := func() {
		align()
		order := make([]int, len(syms))
		for i := range order {
			order[i] = i
		}
		sort.SliceStable(order, func(a, b int) bool { return syms[order[a]].Name < syms[order[b]].Name })
		for _, n := range order {
			out = append(out, byte(n>>16), byte(n>>8), byte(n))
		}
	}

	if !v.offsetsLast {
		offsets()
	}
	align()
	put32(uint32(len(syms)))
	align()
	names := len(out)
	var markers []uint32
	for i, s := range syms {
		if i%markerInterval == 0 {
			markers = append(markers, uint32(len(out)-names))
		}
		c := compress(&tokens, string(s.Type)+s.Name)
		if v.longNames && len(c) > 127 {
			out = append(out, byte(len(c))|0x80, byte(len(c)>>7))
		} else {
			out = append(out, byte(len(c)))
		}
		out = append(out, c...)
	}
	align()
	for _, m := range markers {
		put32(m)
	}
	if v.seqsBetween {
		seqs()
	}
	align()
	var index []byte
	table := len(out)
	for _, t := range tokens {
		index = binary.LittleEndian.AppendUint16(index, uint16(len(out)-table))
		out = append(append(out, t...), 0)
	}
	align()
	out = append(out, index...)
	if v.offsetsLast {
		offsets()
		seqs()
	}
	align()
	return out
}
