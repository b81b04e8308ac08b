package linux

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

type cacheFields struct {
	FileMapping Field `btf:"file.f_mapping"`
	Host        Field `btf:"address_space.host"`
	Pages       Field `btf:"address_space.i_pages.xa_head"`
	Size        Field `btf:"inode.i_size"`
	Shift       Field `btf:"xa_node.shift"`
	Slots       Field `btf:"xa_node.slots"`
	Flags       Field `btf:"folio.flags|page.flags"` // folios since 5.16
	Mapping     Field `btf:"folio.mapping|page.mapping"`
	Index       Field `btf:"folio.index|page.index"`
}

const (
	// maxFolio bounds the pages that are kept as one.
	maxFolio = 1 << 18
	// maxFrame bounds frame numbers: addresses have 52 bits.
	maxFrame = 1 << (52 - xen.PageShift)
)

// pageCache is what the kernel keeps in memory of a file's contents: a struct
// address_space. Of hugetlbfs, which counts in pages of its own, it reads none.
type pageCache struct {
	k       *Kernel
	f       *cacheFields
	mapping vmi.VirtAddr

	// The array of the struct pages of all frames, and the flag of those whose
	// contents are there.
	pages     vmi.VirtAddr
	pageSize  uint64
	available uint64
}

func (k *Kernel) pageCache(mapping vmi.VirtAddr) (*pageCache, error) {
	f, err := k.fields.cache.of(k)
	if err != nil {
		return nil, err
	}
	c := &pageCache{k: k, f: f, mapping: mapping}
	base, err := k.syms.Lookup("vmemmap_base")
	if err != nil {
		return nil, err
	}
	if c.pages, err = (Field{Path: "vmemmap_base", Size: 8}).Pointer(k.as, base); err != nil {
		return nil, err
	}
	size, err := k.sizeof("page")
	if err != nil {
		return nil, err
	}
	c.pageSize = uint64(size)
	bit, err := k.enumValue("pageflags", "PG_uptodate")
	if err != nil {
		return nil, err
	}
	if bit >= 64 {
		return nil, fmt.Errorf("%w: PG_uptodate is %d", ErrCorrupt, bit)
	}
	c.available = 1 << bit
	return c, nil
}

// enumValue returns the value of a constant of an enumeration.
func (k *Kernel) enumValue(enum, name string) (_ uint64, err error) {
	defer func() {
		if r := recover(); r != nil { // types are the guest's
			err = fmt.Errorf("%w: BTF of enum %s: %v", ErrCorrupt, enum, r)
		}
	}()
	var e *btf.Enum
	if err := k.types.TypeByName(enum, &e); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			return 0, fmt.Errorf("%w: enum %s", ErrNoField, enum)
		}
		return 0, fmt.Errorf("BTF of enum %s: %w", enum, err)
	}
	for _, v := range e.Values {
		if v.Name == name {
			return v.Value, nil
		}
	}
	return 0, fmt.Errorf("%w: %s of enum %s", ErrNoField, name, enum)
}

// size is the file's, in bytes.
func (c *pageCache) size() (int64, error) {
	r := &reader{s: c.k.as}
	n := int64(r.uint(c.f.Size, r.ptr(c.f.Host, c.mapping)))
	if r.err == nil && n < 0 {
		r.fail(fmt.Errorf("%w: file of %d bytes", ErrCorrupt, n))
	}
	return n, r.err
}

// readAt reads from a file of size bytes.
func (c *pageCache) readAt(p []byte, off, size int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(p) {
		at := off + int64(n)
		if at >= size {
			return n, io.EOF
		}
		gfn, err := c.frame(uint64(at) >> xen.PageShift)
		if err != nil {
			return n, fmt.Errorf("offset %#x: %w", at, err)
		}
		in := uint64(at) % xen.PageSize
		part := p[n:][:min(uint64(len(p)-n), xen.PageSize-in, uint64(size-at))]
		if _, err := c.k.as.Memory().ReadAt(part, vmi.PhysAddr(gfn)<<xen.PageShift+vmi.PhysAddr(in)); err != nil {
			return n, fmt.Errorf("offset %#x: %w", at, err)
		}
		n += len(part)
	}
	return n, nil
}

// frame returns where a page of the file is, by its number in it.
func (c *pageCache) frame(index uint64) (xen.GFN, error) {
	r := &reader{s: c.k.as}
	page := c.load(r, index)
	if r.err != nil {
		return 0, r.err
	}
	if page == 0 {
		return 0, ErrNotCached
	}
	flags, first := r.uint(c.f.Flags, page), r.uint(c.f.Index, page)
	owner := r.ptr(c.f.Mapping, page)
	if r.err != nil {
		return 0, r.err
	}
	// It is being read from the disk, or was taken from the file a moment ago.
	if flags&c.available == 0 || owner != c.mapping {
		return 0, ErrNotCached
	}
	// The entry of several pages is the first of them.
	n := uint64(page-c.pages) / c.pageSize
	if page < c.pages || uint64(page-c.pages)%c.pageSize != 0 || index < first || index-first >= maxFolio || n >= maxFrame {
		return 0, fmt.Errorf("%w: page %d of the file is in the one at %v, which begins with page %d", ErrCorrupt, index, page, first)
	}
	return xen.GFN(n + index - first), nil
}

// load returns the pointer that the cache has for a page, or 0.
func (c *pageCache) load(r *reader, index uint64) vmi.VirtAddr {
	slots := uint64(c.f.Slots.Size / 8)
	if slots == 0 || slots&(slots-1) != 0 {
		r.fail(fmt.Errorf("%w: xarray nodes of %d slots", ErrCorrupt, slots))
		return 0
	}
	slot := Field{Path: c.f.Slots.Path, Size: 8}
	entry, above := r.ptr(c.f.Pages, c.mapping), uint64(64)
	for depth := 0; r.err == nil; depth++ {
		switch {
		case entry >= kernelHalf && entry&3 == 0:
			if depth == 0 && index != 0 { // without a node there is one page
				return 0
			}
			return entry
		case entry < kernelHalf || entry&3 != 2:
			return 0 // nothing, or swapped out
		}
		node := entry &^ 3
		shift := r.uint(c.f.Shift, node)
		if r.err != nil {
			return 0
		}
		if shift >= above {
			r.fail(fmt.Errorf("%w: xarray node at %v", ErrCorrupt, node))
			return 0
		}
		i := index >> shift
		if depth == 0 && i >= slots {
			return 0
		}
		entry = r.ptr(slot, node+vmi.VirtAddr(c.f.Slots.Offset)+vmi.VirtAddr(8*(i%slots)))
		// An entry of several slots is in the first; the others have its number.
		if first := uint64(entry) >> 2; entry&3 == 2 && first < slots {
			entry = r.ptr(slot, node+vmi.VirtAddr(c.f.Slots.Offset)+vmi.VirtAddr(8*first))
		}
		above = shift
	}
	return 0
}
