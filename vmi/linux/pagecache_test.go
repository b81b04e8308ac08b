package linux

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Offsets in the structures of cacheTypes, and the guest's array of pages.
const (
	oHost, oPages                         = 0x8, 0x18 // address_space
	oFileSize                             = 0x50      // inode
	oShift, oSlots                        = 0x0, 0x28 // xa_node
	oFlags, oMapping, oIndex              = 0x0, 0x18, 0x20
	pageStruct                            = 0x40
	pageArray                vmi.VirtAddr = 0xffffea0000000000
	upToDate                              = 1 << 3
)

// cacheTypes are those of a kernel with pages; those since 5.16 have folios too,
// which begin alike.
func cacheTypes(folios bool) []btf.Type {
	u64 := &btf.Int{Name: "long unsigned int", Size: 8}
	u8 := &btf.Int{Name: "unsigned char", Size: 1}
	ptr := &btf.Pointer{Target: &btf.Void{}}
	at := func(off int) btf.Bits { return btf.Bits(off * 8) }
	types := append(testTypes(),
		&btf.Struct{Name: "file", Size: 8, Members: []btf.Member{{Name: "f_mapping", Type: ptr}}},
		&btf.Struct{Name: "address_space", Size: 0x28, Members: []btf.Member{
			{Name: "host", Type: ptr, Offset: at(oHost)},
			{Name: "i_pages", Type: &btf.Struct{Name: "xarray", Size: 0x10, Members: []btf.Member{
				{Name: "xa_flags", Type: u64}, {Name: "xa_head", Type: ptr, Offset: at(8)},
			}}, Offset: at(oPages - 8)},
		}},
		&btf.Struct{Name: "inode", Size: 0x58, Members: []btf.Member{{Name: "i_size", Type: u64, Offset: at(oFileSize)}}},
		&btf.Struct{Name: "xa_node", Size: oSlots + 64*8, Members: []btf.Member{
			{Name: "shift", Type: u8, Offset: at(oShift)},
			{Name: "slots", Type: &btf.Array{Index: u64, Type: ptr, Nelems: 64}, Offset: at(oSlots)},
		}},
		&btf.Enum{Name: "pageflags", Size: 4, Values: []btf.EnumValue{{Name: "PG_locked"}, {Name: "PG_uptodate", Value: 3}}},
	)
	members := []btf.Member{
		{Name: "flags", Type: u64, Offset: at(oFlags)}, {Name: "mapping", Type: ptr, Offset: at(oMapping)}, {Name: "index", Type: u64, Offset: at(oIndex)},
	}
	if !folios {
		return append(types, &btf.Struct{Name: "page", Size: pageStruct, Members: members})
	}
	return append(types, &btf.Struct{Name: "page", Size: pageStruct, Members: members[:1]}, &btf.Struct{Name: "folio", Size: 2 * pageStruct, Members: members})
}

// cachedFile is a file of the test guest: pages 0, 1, 64 to 67 as one, and 4096.
type cachedFile struct {
	*testGuest
	c              *pageCache
	mapping, inode vmi.VirtAddr
	low, top       vmi.VirtAddr
	want           []byte
	arrays         map[vmi.VirtAddr]bool // pages of structs that are mapped
}

func newCachedFile(t testing.TB, folios bool) *cachedFile {
	o := guestOptions{types: cacheTypes(folios), more: []Symbol{{kernelData + 0x6000, "vmemmap_base", 'D'}}}
	g := newTestGuest(t, o)
	g.put(kernelData+0x6000, pageArray)
	f := &cachedFile{testGuest: g, mapping: virt(g.alloc(0x28)), inode: virt(g.alloc(0x58)), want: make([]byte, 4097*xen.PageSize+7)}
	g.put(f.mapping+oHost, f.inode)
	g.put(f.inode+oFileSize, uint64(len(f.want)))
	node := func(shift int) vmi.VirtAddr {
		n := virt(g.alloc(oSlots + 64*8))
		g.Write(vmi.PhysAddr(n-directMap), []byte{byte(shift)})
		return n
	}
	f.top = node(12)
	middle, second, third := node(6), node(0), node(6)
	f.low = node(0)
	g.put(f.mapping+oPages, f.top+2)
	g.put(slot(f.top, 0), middle+2)
	g.put(slot(f.top, 1), third+2)
	g.put(slot(middle, 0), f.low+2)
	g.put(slot(middle, 1), second+2)
	last := node(0)
	g.put(slot(third, 0), last+2)
	g.put(slot(f.low, 0), f.page(0, 1))
	g.put(slot(f.low, 1), f.page(1, 1))
	g.put(slot(second, 0), f.page(64, 4))
	for i := 1; i < 4; i++ {
		g.put(slot(second, i), uint64(0<<2|2))
	}
	g.put(slot(last, 0), f.page(4096, 1))
	g.put(slot(last, 1), uint64(17)) // swapped out
	k := g.open(t)
	var err error
	if f.c, err = k.pageCache(f.mapping); err != nil {
		t.Fatal(err)
	}
	return f
}

func slot(node vmi.VirtAddr, i int) vmi.VirtAddr { return node + oSlots + vmi.VirtAddr(8*i) }

// page returns the struct page of new pages of the file's.
func (f *cachedFile) page(index, n int) vmi.VirtAddr {
	f.next = (f.next + xen.PageSize - 1) &^ (xen.PageSize - 1)
	frames := f.alloc(n * xen.PageSize)
	for i := range n * xen.PageSize {
		f.want[index*xen.PageSize+i] = byte(index + i/xen.PageSize + i*31)
	}
	f.Write(frames, f.want[index*xen.PageSize:][:n*xen.PageSize])
	page := pageArray + vmi.VirtAddr(frames.GFN())*pageStruct
	at := page &^ (xen.PageSize - 1)
	if f.arrays == nil {
		f.arrays = make(map[vmi.VirtAddr]bool)
	}
	if !f.arrays[at] {
		f.arrays[at] = true
		f.next = (f.next + xen.PageSize - 1) &^ (xen.PageSize - 1)
		f.Map(data(dTopTable), 4, at, f.alloc(xen.PageSize), 1, 0)
	}
	f.putPage(page+oFlags, upToDate)
	f.putPage(page+oMapping, uint64(f.mapping))
	f.putPage(page+oIndex, uint64(index))
	return page
}

// putPage writes to the array of pages.
func (f *cachedFile) putPage(va vmi.VirtAddr, v uint64) {
	pa, err := f.mem.AddressSpace(vmi.CR3(data(dTopTable))).Translate(va)
	if err != nil {
		panic(err)
	}
	f.put(virt(pa), v)
}

func (f *cachedFile) readAt(p []byte, off int64) (int, error) {
	size, err := f.c.size()
	if err != nil {
		return 0, err
	}
	return f.c.readAt(p, off, size)
}

func TestPageCache(t *testing.T) {
	for _, folios := range []bool{false, true} {
		f := newCachedFile(t, folios)
		for _, tt := range []struct {
			off  int64
			n    int
			read int
			err  error
		}{
			{0, 2 * xen.PageSize, 2 * xen.PageSize, nil},
			{xen.PageSize - 3, 7, 7, nil},
			{64 * xen.PageSize, 4 * xen.PageSize, 4 * xen.PageSize, nil},
			{66*xen.PageSize + 9, 100, 100, nil},
			{4096 * xen.PageSize, xen.PageSize, xen.PageSize, nil},
			{xen.PageSize, 2 * xen.PageSize, xen.PageSize, ErrNotCached},
			{68 * xen.PageSize, 1, 0, ErrNotCached},
			{4097 * xen.PageSize, 1, 0, ErrNotCached},
			{4097*xen.PageSize + 7, 1, 0, io.EOF},
			{1 << 40, 1, 0, io.EOF},
		} {
			p := make([]byte, tt.n)
			n, err := f.readAt(p, tt.off)
			if n != tt.read || !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("%d bytes at %#x: %d, %v", tt.n, tt.off, n, err)
			}
			if n > 0 && !bytes.Equal(p[:n], f.want[tt.off:][:n]) {
				t.Errorf("%d bytes at %#x are others", tt.n, tt.off)
			}
		}
		if n, err := f.readAt(make([]byte, 1), -1); n != 0 || err == nil {
			t.Errorf("before the beginning: %d, %v", n, err)
		}
	}
}

func TestPageCacheThatChanges(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(f *cachedFile, page vmi.VirtAddr)
		want error
	}{
		{"being read", func(f *cachedFile, page vmi.VirtAddr) { f.putPage(page+oFlags, 1) }, ErrNotCached},
		{"taken away", func(f *cachedFile, page vmi.VirtAddr) { f.putPage(page+oMapping, 0) }, ErrNotCached},
		{"empty", func(f *cachedFile, _ vmi.VirtAddr) { f.put(f.mapping+oPages, uint64(0)) }, ErrNotCached},
		{"another page", func(f *cachedFile, page vmi.VirtAddr) { f.putPage(page+oIndex, 5) }, ErrCorrupt},
		{"no page", func(f *cachedFile, page vmi.VirtAddr) {
			f.put(slot(f.low, 0), f.inode)
			f.put(f.inode+oFlags, uint64(upToDate))
			f.put(f.inode+oMapping, f.mapping)
		}, ErrCorrupt},
		{"not mapped", func(f *cachedFile, _ vmi.VirtAddr) { f.put(slot(f.low, 0), uint64(0xffffc90000000000)) }, vmi.ErrNotPresent},
		{"node in itself", func(f *cachedFile, _ vmi.VirtAddr) { f.put(slot(f.top, 0), f.top+2) }, ErrCorrupt},
		{"size", func(f *cachedFile, _ vmi.VirtAddr) { f.put(f.inode+oFileSize, ^uint64(0)) }, ErrCorrupt},
	} {
		f := newCachedFile(t, true)
		tt.edit(f, f.read(slot(f.low, 0)))
		if n, err := f.readAt(make([]byte, 8), 0); n != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: %d, %v, want %v", tt.name, n, err, tt.want)
		}
	}
}

// A file of one page has no node.
func TestPageCacheOfOnePage(t *testing.T) {
	f := newCachedFile(t, true)
	f.put(f.mapping+oPages, f.read(slot(f.low, 0)))
	p := make([]byte, 8)
	if n, err := f.readAt(p, 0); n != 8 || err != nil || !bytes.Equal(p, f.want[:8]) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.readAt(p, xen.PageSize); n != 0 || !errors.Is(err, ErrNotCached) {
		t.Errorf("the second page: %d, %v", n, err)
	}
}

// FuzzPageCache overwrites the file's nodes.
func FuzzPageCache(f *testing.F) {
	file := newCachedFile(f, true)
	const size = 8 * xen.PageSize
	start := vmi.PhysAddr(file.mapping - directMap)
	good := make([]byte, size)
	if _, err := file.mem.ReadAt(good, start); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(oPages), uint64(0), uint64(0))
	f.Add(uint32(file.top-file.mapping), uint64(file.top+2), uint64(1<<40))
	f.Fuzz(func(t *testing.T, at uint32, word, off uint64) {
		defer file.Write(start, good)
		p := bytes.Clone(good)
		for i := range 8 {
			p[(int(at%size)+i)%size] = byte(word >> (8 * i))
		}
		file.Write(start, p)
		b := make([]byte, 3*xen.PageSize)
		if n, err := file.readAt(b, int64(off)); n < 0 || n > len(b) || n < len(b) && err == nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}
