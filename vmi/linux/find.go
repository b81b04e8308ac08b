package linux

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// The kernel's image lies in these addresses, KASLR or not
// (Documentation/arch/x86/x86_64/mm.rst of the kernel's source).
const (
	imageStart vmi.VirtAddr = 0xffffffff80000000
	imageEnd   vmi.VirtAddr = 0xffffffffc0000000
)

const (
	cr0PG   = 1 << 31
	cr4PAE  = 1 << 5
	cr4LA57 = 1 << 12
	eferLMA = 1 << 10
	// kptiUserBit tells the root of a process's user half under KPTI.
	kptiUserBit = 1 << 12

	scanChunk = 1 << 20
	// The tables before and behind the token table: names, markers and offsets
	// of 150,000 symbols take 3 MiB.
	firstBefore  vmi.VirtAddr = 2 << 20
	tablesBefore              = 16 << 20
	tablesAfter               = 8 << 20
	// maxCandidates bounds the work on memory that imitates token tables.
	maxCandidates = 32
)

// region is a range of mapped addresses.
type region struct {
	start, end vmi.VirtAddr
}

// findImage returns an address space that maps the kernel's image, and the
// system call entry point if the registers have it.
func findImage(mem *vmi.Memory, regs []xen.Registers) (vmi.VirtAddr, vmi.AddressSpace, error) {
	var none vmi.AddressSpace
	entry, err := entryPoint(regs)
	if err != nil {
		return 0, none, err
	}
	// Under KPTI a root with bit 12 set maps hardly more than the entry code,
	// and the root without it the whole kernel. Without KPTI a root with bit 12
	// set is as good as another. So take what maps most.
	var best vmi.AddressSpace
	var most uint64
	var firstErr error
	for _, s := range candidateSpaces(mem, regs) {
		if entry != 0 {
			if _, err := s.Translate(entry); err != nil {
				if firstErr == nil {
					firstErr = err
				}
				continue
			}
		}
		if n := mappedBytes(s); n > most {
			best, most = s, n
		}
	}
	switch {
	case most != 0:
		return entry, best, nil
	case firstErr != nil:
		return 0, none, fmt.Errorf("%w: its system call entry point cannot be read: %w", ErrNotLinux, firstErr)
	case entry != 0:
		return 0, none, fmt.Errorf("%w: no vCPU is in long mode", ErrNotLinux)
	}
	return 0, none, fmt.Errorf("%w: its page tables map nothing where the kernel would be", ErrNotLinux)
}

// entryPoint returns the system call entry point, or 0 if the registers are
// those of a core dump, which has no model-specific registers.
func entryPoint(regs []xen.Registers) (vmi.VirtAddr, error) {
	if len(regs) == 0 {
		return 0, ErrNoRegisters
	}
	dump, paging := false, false
	for i := range regs {
		r := &regs[i]
		if entry := vmi.VirtAddr(r.LSTAR); entry != 0 {
			if entry < imageStart || entry >= imageEnd {
				return 0, fmt.Errorf("%w: its system call entry point is %v", ErrNotLinux, entry)
			}
			return entry, nil
		}
		dump = dump || ofDump(r)
		paging = paging || r.CR0&cr0PG != 0 && r.EFER&eferLMA == 0
	}
	switch {
	case dump:
		return 0, nil
	case paging:
		return 0, fmt.Errorf("%w: it runs 32-bit code", ErrNotLinux)
	}
	return 0, ErrBooting
}

// ofDump reports whether registers are those of a vCPU that uses PAE or
// four-level tables, in a dump that does not tell which.
func ofDump(r *xen.Registers) bool {
	return r.EFER == 0 && r.GDTRBase == 0 && r.CR0&cr0PG != 0 && r.CR4&cr4PAE != 0
}

// maxSpaces bounds the address spaces that are tried; any vCPU's will do.
const maxSpaces = 16

// candidateSpaces returns the address spaces that the vCPUs use, each with bit
// 12 of the root as it is and cleared.
func candidateSpaces(mem *vmi.Memory, regs []xen.Registers) []vmi.AddressSpace {
	var spaces []vmi.AddressSpace
	for i := range regs {
		r := &regs[i]
		if r.CR3 == 0 || r.EFER&eferLMA == 0 && !ofDump(r) {
			continue
		}
		s := mem.AddressSpace(vmi.CR3(r.CR3))
		if r.CR4&cr4LA57 != 0 {
			s = mem.AddressSpace5(vmi.CR3(r.CR3))
		}
		for _, s := range []vmi.AddressSpace{s, s.WithRoot(vmi.CR3(r.CR3 &^ kptiUserBit))} {
			if len(spaces) < maxSpaces && !slices.Contains(spaces, s) {
				spaces = append(spaces, s)
			}
		}
	}
	return spaces
}

func mappedBytes(s vmi.AddressSpace) uint64 {
	var n uint64
	for m, err := range s.Mappings(imageStart, imageEnd) {
		if err == nil {
			n += m.Size
		}
	}
	return n
}

// imageRegions returns the mapped ranges of the kernel's image. If data is
// set, only ranges that are not executable, which is where the symbol table
// is once the kernel has set its final permissions.
func imageRegions(s vmi.AddressSpace, data bool) []region {
	var rs []region
	for m, err := range s.Mappings(imageStart, imageEnd) {
		if err != nil || data && !m.NoExec {
			continue
		}
		end := m.Virt + vmi.VirtAddr(m.Size)
		if n := len(rs); n > 0 && rs[n-1].end == m.Virt {
			rs[n-1].end = end
			continue
		}
		rs = append(rs, region{m.Virt, end})
	}
	return rs
}

// findSymbols searches the kernel's image for its symbol table. The entry point
// may be 0.
func findSymbols(s vmi.AddressSpace, entry vmi.VirtAddr) (*Symbols, error) {
	var reason error
	candidates, work := 0, maxEffort
	genuine := func(syms *Symbols) bool { return isKernels(s, syms, entry) }
	for _, data := range []bool{true, false} {
		for _, r := range imageRegions(s, data) {
			for at := range findDigits(s, r) {
				if candidates++; candidates > maxCandidates {
					return nil, fmt.Errorf("%w: %w", ErrNoKallsyms, errTooMuchWork)
				}
				syms, err := symbolsAround(s, r, at, genuine, &work)
				if err == nil {
					return syms, nil
				}
				if errors.Is(err, errTooMuchWork) {
					return nil, fmt.Errorf("%w: %w", ErrNoKallsyms, err)
				}
				if !errors.Is(err, errNoTokenTable) {
					reason = err
				}
			}
		}
	}
	if reason != nil {
		return nil, fmt.Errorf("%w: found a table, but %w", ErrNoKallsyms, reason)
	}
	return nil, ErrNoKallsyms
}

// isKernels reports whether symbols are at their places: the entry point, or
// the banner where the entry point is not known.
func isKernels(s vmi.AddressSpace, syms *Symbols, entry vmi.VirtAddr) bool {
	if entry == 0 {
		banner, err := syms.Lookup("linux_banner")
		if err != nil {
			return false
		}
		var b [len(bannerPrefix)]byte
		_, err = s.Read(banner, b[:])
		return err == nil && string(b[:]) == bannerPrefix
	}
	for sym := range syms.startingAt(entry) {
		if sym.Name == entrySymbol {
			return true
		}
	}
	return false
}

// findDigits yields the addresses in r of the sequence that every token table
// contains.
func findDigits(s vmi.AddressSpace, r region) func(yield func(vmi.VirtAddr) bool) {
	return func(yield func(vmi.VirtAddr) bool) {
		overlap := len(digitTokens) - 1
		buf := make([]byte, overlap+scanChunk)
		kept := 0 // bytes of the chunk before
		for at := r.start; at < r.end; {
			size := int(min(r.end-at, scanChunk))
			got, err := s.Read(at, buf[kept:kept+size])
			b, origin := buf[:kept+got], at-vmi.VirtAddr(kept)
			for off := 0; ; {
				i := bytes.Index(b[off:], digitTokens)
				if i < 0 {
					break
				}
				if !yield(origin + vmi.VirtAddr(off+i)) {
					return
				}
				off += i + 1
			}
			if err != nil {
				// A page that cannot be read: go on behind it.
				at = (at + vmi.VirtAddr(got) + xen.PageSize) &^ (xen.PageSize - 1)
				kept = 0
				continue
			}
			at += vmi.VirtAddr(got)
			kept = copy(buf, b[max(0, len(b)-overlap):])
		}
	}
}

// symbolsAround decodes the symbol table whose token table has its digits at
// address at in region r. It reads more and more around it.
func symbolsAround(s vmi.AddressSpace, r region, at vmi.VirtAddr, genuine func(*Symbols) bool, work *effort) (*Symbols, error) {
	// Most look-alikes fail here, on little memory.
	near := around(r, at, 64<<10, 64<<10)
	if _, _, err := readTokenTable(s, near, at); err != nil {
		return nil, err
	}
	for before := firstBefore; ; before *= 2 {
		wide := around(r, at, before, min(before/2, tablesAfter))
		buf, tt, err := readTokenTable(s, wide, at)
		if err != nil {
			return nil, err
		}
		syms, err := decodeKallsyms(buf, tt, wide.start, genuine, work)
		if err == nil || errors.Is(err, errTooMuchWork) || before >= tablesBefore {
			return syms, err
		}
	}
}

// around returns the part of r from before below at to after above it, from an
// aligned address on.
func around(r region, at, before, after vmi.VirtAddr) region {
	p := r
	if at-r.start > before {
		p.start = (at - before) &^ 7
	}
	if r.end-at > after {
		p.end = at + after
	}
	return p
}

// readTokenTable reads r and the token table with its digits at address at.
// Pages that cannot be read count as zero; where they matter, decoding fails.
func readTokenTable(s vmi.AddressSpace, r region, at vmi.VirtAddr) ([]byte, *tokenTable, error) {
	buf := make([]byte, r.end-r.start)
	for off := 0; off < len(buf); {
		n, err := s.Read(r.start+vmi.VirtAddr(off), buf[off:])
		off += n
		if err != nil {
			page := (r.start + vmi.VirtAddr(off) + xen.PageSize) &^ (xen.PageSize - 1)
			off = int(page - r.start)
		}
	}
	tt, err := parseTokenTable(buf, int(at-r.start))
	return buf, tt, err
}
