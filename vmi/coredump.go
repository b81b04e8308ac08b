package vmi

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/govmi/govmi/xen"
)

// CoreDump is a [Snapshot] written by "xl dump-core": an ELF file with sections
// but no segments (docs/misc/dump-core-format.txt of Xen's source).
type CoreDump struct {
	r      io.ReaderAt
	pages  int64 // offset of .xen_pages
	frames []dumpedFrame
	regs   []xen.Registers
}

// dumpedFrame is a frame and the number of its page in the file.
type dumpedFrame struct {
	gfn  xen.GFN
	page uint32
}

// Notes of section .note.Xen (xen/include/public/elfnote.h) and what they hold
// (tools/include/xenctrl.h, xc_core.h).
const (
	noteHeader  = 0x2000001
	noteVersion = 0x2000003

	dumpMagicPV  = 0xf00febed
	dumpMagicHVM = 0xf00febee

	// maxDumpedFrames is 256 GiB of memory.
	maxDumpedFrames = 1 << 26
	maxDumpedVCPUs  = 8192
	maxNotes        = 1 << 20
	noFrame         = ^uint64(0) // a page of .xen_pages that is unused
)

// OpenCoreDump opens a Xen core dump of size bytes. Errors match [ErrFormat]
// and name what is missing or cut short. Of the model-specific registers a dump
// has only the FS and GS bases. A dump of a PV guest has machine frames: they
// are what its page tables refer to.
func OpenCoreDump(r io.ReaderAt, size int64) (*CoreDump, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	d := &dumpFile{r: r, size: size, elf: f}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Type != elf.ET_CORE {
		return nil, fmt.Errorf("%w: an ELF file, but no core dump of an x86 domain", ErrFormat)
	}
	if err := d.readNotes(); err != nil {
		return nil, err
	}
	c := &CoreDump{r: r}
	if c.frames, err = d.readFrames(); err != nil {
		return nil, err
	}
	pages, err := d.section(".xen_pages", d.nrPages*xen.PageSize)
	if err != nil {
		return nil, err
	}
	c.pages = int64(pages.Offset)
	if c.regs, err = d.readRegisters(); err != nil {
		return nil, err
	}
	return c, nil
}

// Registers implements [Snapshot].
func (c *CoreDump) Registers() []xen.Registers { return slices.Clone(c.regs) }

// GFNs implements [Snapshot].
func (c *CoreDump) GFNs() iter.Seq[xen.GFN] {
	return func(yield func(xen.GFN) bool) {
		for _, f := range c.frames {
			if !yield(f.gfn) {
				return
			}
		}
	}
}

// MapFrames implements [FrameMapper]; a frame that the dump lacks fails with
// [ErrNotInFile].
func (c *CoreDump) MapFrames(gfns []xen.GFN, writable bool) (Frames, error) {
	return copyFrames(gfns, writable, func(g xen.GFN) ([]byte, error) {
		i, ok := slices.BinarySearchFunc(c.frames, g, func(f dumpedFrame, g xen.GFN) int { return cmp.Compare(f.gfn, g) })
		if !ok {
			return nil, ErrNotInFile
		}
		return readFrame(c.r, c.pages+int64(c.frames[i].page)<<xen.PageShift)
	})
}

// dumpFile is a dump while it is opened.
type dumpFile struct {
	r       io.ReaderAt
	size    int64
	elf     *elf.File
	magic   uint64
	nrVCPUs uint64
	nrPages uint64
}

// section returns a section that has at least want bytes, all of them in the
// file.
func (d *dumpFile) section(name string, want uint64) (*elf.Section, error) {
	s := d.elf.Section(name)
	if s == nil {
		return nil, fmt.Errorf("%w: no section %s", ErrFormat, name)
	}
	if s.Type == elf.SHT_NOBITS || s.Size < want {
		return nil, fmt.Errorf("%w: section %s has %d bytes, %d are needed", ErrFormat, name, s.Size, want)
	}
	if s.Offset > uint64(d.size) || s.Size > uint64(d.size)-s.Offset {
		return nil, fmt.Errorf("%w: cut short: section %s goes beyond the file's %d bytes", ErrFormat, name, d.size)
	}
	return s, nil
}

func (d *dumpFile) read(s *elf.Section, n uint64) ([]byte, error) {
	b := make([]byte, n)
	if k, err := d.r.ReadAt(b, int64(s.Offset)); k < len(b) {
		return nil, fmt.Errorf("%w: section %s: %w", ErrFormat, s.Name, err)
	}
	return b, nil
}

func (d *dumpFile) readNotes() error {
	s, err := d.section(".note.Xen", 0)
	if err != nil {
		return fmt.Errorf("an ELF file, but no Xen core dump: %w", err)
	}
	b, err := d.read(s, min(s.Size, maxNotes))
	if err != nil {
		return err
	}
	align := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(b) >= 12 {
		nameLen, descLen := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
		kind := binary.LittleEndian.Uint32(b[8:])
		b = b[12:]
		if align(nameLen)+descLen > uint64(len(b)) {
			return fmt.Errorf("%w: cut short: a note goes beyond .note.Xen", ErrFormat)
		}
		desc := b[align(nameLen):][:descLen]
		b = b[min(uint64(len(b)), align(nameLen)+align(descLen)):]
		switch {
		case kind == noteHeader && descLen >= 32:
			d.magic = binary.LittleEndian.Uint64(desc)
			d.nrVCPUs = binary.LittleEndian.Uint64(desc[8:])
			d.nrPages = binary.LittleEndian.Uint64(desc[16:])
			if pageSize := binary.LittleEndian.Uint64(desc[24:]); pageSize != xen.PageSize {
				return fmt.Errorf("%w: pages of %d bytes", ErrFormat, pageSize)
			}
		case kind == noteVersion && descLen >= 8:
			if v := binary.LittleEndian.Uint64(desc); v>>32 != 0 {
				return fmt.Errorf("%w: dump-core format %d.%d, known is 0.1", ErrFormat, v>>32, uint32(v))
			}
		}
	}
	switch {
	case d.magic != dumpMagicPV && d.magic != dumpMagicHVM:
		return fmt.Errorf("%w: no header note of a Xen core dump", ErrFormat)
	case d.nrPages == 0 || d.nrPages > maxDumpedFrames:
		return fmt.Errorf("%w: %d pages", ErrFormat, d.nrPages)
	case d.nrVCPUs > maxDumpedVCPUs:
		return fmt.Errorf("%w: %d vCPUs", ErrFormat, d.nrVCPUs)
	}
	return nil
}

// readFrames reads which frame each page is of.
func (d *dumpFile) readFrames() ([]dumpedFrame, error) {
	name, size, at := ".xen_pfn", uint64(8), 0
	if d.magic == dumpMagicPV {
		name, size, at = ".xen_p2m", 16, 8 // the pseudo-physical frame, then the machine's
	}
	s, err := d.section(name, d.nrPages*size)
	if err != nil {
		return nil, err
	}
	b, err := d.read(s, d.nrPages*size)
	if err != nil {
		return nil, err
	}
	frames := make([]dumpedFrame, 0, d.nrPages)
	for i := range d.nrPages {
		gfn := binary.LittleEndian.Uint64(b[i*size+uint64(at):])
		if gfn != noFrame {
			frames = append(frames, dumpedFrame{xen.GFN(gfn), uint32(i)})
		}
	}
	byGFN := func(a, b dumpedFrame) int { return cmp.Compare(a.gfn, b.gfn) }
	if !slices.IsSortedFunc(frames, byGFN) { // the format promises no order
		slices.SortStableFunc(frames, byGFN)
	}
	return slices.CompactFunc(frames, func(a, b dumpedFrame) bool { return a.gfn == b.gfn }), nil
}

// Offsets in the 64-bit struct vcpu_guest_context
// (xen/include/public/arch-x86/xen.h and xen-x86_64.h).
const (
	vcpuContextSize = 5168
	vcUserRegs      = 520
	vcRIP           = vcUserRegs + 128
	vcCS            = vcUserRegs + 136
	vcRFLAGS        = vcUserRegs + 144
	vcRSP           = vcUserRegs + 152
	vcSS            = vcUserRegs + 160
	vcSegments      = vcUserRegs + 168 // ES, DS, FS, GS, 8 bytes each
	vcCtrlReg       = 4984
	vcDebugReg      = 5048
	vcFSBase        = 5144
	vcGSBaseKernel  = 5152
	vcGSBaseUser    = 5160
)

func (d *dumpFile) readRegisters() ([]xen.Registers, error) {
	s, err := d.section(".xen_prstatus", d.nrVCPUs*vcpuContextSize)
	if err != nil {
		return nil, err
	}
	b, err := d.read(s, d.nrVCPUs*vcpuContextSize)
	if err != nil {
		return nil, err
	}
	var all []xen.Registers
	for c := range slices.Chunk(b, vcpuContextSize) {
		all = append(all, decodeVCPUContext(c))
	}
	return all, nil
}

func decodeVCPUContext(c []byte) xen.Registers {
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(c[off:]) }
	u16 := func(off int) uint16 { return binary.LittleEndian.Uint16(c[off:]) }
	var r xen.Registers
	for i, p := range []*uint64{
		&r.R15, &r.R14, &r.R13, &r.R12, &r.RBP, &r.RBX, &r.R11, &r.R10,
		&r.R9, &r.R8, &r.RAX, &r.RCX, &r.RDX, &r.RSI, &r.RDI,
	} {
		*p = u64(vcUserRegs + 8*i)
	}
	r.RIP, r.RFLAGS, r.RSP = u64(vcRIP), u64(vcRFLAGS), u64(vcRSP)
	r.CR0, r.CR2, r.CR3, r.CR4 = u64(vcCtrlReg), u64(vcCtrlReg+16), u64(vcCtrlReg+24), u64(vcCtrlReg+32)
	r.DR6, r.DR7 = u64(vcDebugReg+48), u64(vcDebugReg+56)
	r.CS.Selector, r.SS.Selector = u16(vcCS), u16(vcSS)
	for i, s := range []*xen.Segment{&r.ES, &r.DS, &r.FS, &r.GS} {
		s.Selector = u16(vcSegments + 8*i)
	}
	r.FS.Base = u64(vcFSBase)
	r.GS.Base, r.ShadowGS = u64(vcGSBaseKernel), u64(vcGSBaseUser)
	// There are no access rights in it; the privilege level is in CS as well.
	if cpl := r.CS.Selector & 3; cpl != 0 {
		r.SS.Access = cpl << 5
		r.GS.Base, r.ShadowGS = r.ShadowGS, r.GS.Base
	}
	return r
}
