package linux

import (
	"fmt"
	"io"
	"iter"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// MappedFile is a file that a process has mapped. Its contents are read from the
// guest's page cache, whether the process has touched them or not. It is safe
// for concurrent use, and keeps nothing of the guest alive: when the file is gone,
// what is read ends with an error.
type MappedFile struct {
	// Path is as [Map.Name].
	Path   string
	Device Device
	Inode  uint64
	// Size is that of the file, in bytes.
	Size int64
	// Maps are the ranges that it is mapped to, in ascending order.
	Maps []Map

	cache *pageCache
}

var _ io.ReaderAt = (*MappedFile)(nil)

// maxFileMaps bounds the ranges with files that are kept at a time.
const maxFileMaps = 1 << 18

// MappedFiles yields the regular files that the task's process has mapped, in the
// order of their first ranges. The error is [ErrNoMM] for a kernel thread and a
// task that has exited.
func (t Task) MappedFiles() iter.Seq2[*MappedFile, error] {
	return func(yield func(*MappedFile, error) bool) {
		files, err := t.mappedFiles()
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, fmt.Errorf("mapped files of the task at %v: %w", t.Addr, err))
		}
	}
}

func (t Task) mappedFiles() (files []*MappedFile, err error) {
	k := t.k
	f, err := k.fields.maps.of(k)
	if err != nil {
		return nil, err
	}
	p, err := k.fields.path.of(k)
	if err != nil {
		return nil, err
	}
	cf, err := k.fields.cache.of(k)
	if err != nil {
		return nil, err
	}
	r := &reader{s: k.as}
	byMapping := make(map[vmi.VirtAddr]*MappedFile)
	count := 0
	err = t.maps(func(area vmi.VirtAddr, m Map) bool {
		file := r.ptr(f.File, area)
		if file == 0 {
			return r.err == nil
		}
		mapping := r.ptr(cf.FileMapping, file)
		if r.err != nil || mapping == 0 {
			return r.err == nil
		}
		if count++; count > maxFileMaps {
			r.fail(fmt.Errorf("more than %d ranges with files", maxFileMaps))
			return false
		}
		one := byMapping[mapping]
		if one == nil {
			if r.uint(p.Mode, r.ptr(cf.Host, mapping))&modeType != modeRegular {
				return r.err == nil
			}
			one = &MappedFile{Path: m.Name, Device: m.Device, Inode: m.Inode}
			var err error
			if one.cache, err = k.pageCache(mapping); err == nil {
				one.Size, err = one.cache.size()
			}
			if err != nil {
				r.fail(fmt.Errorf("%s: %w", m.Name, err))
				return false
			}
			byMapping[mapping] = one
			files = append(files, one)
		}
		one.Maps = append(one.Maps, m)
		return true
	})
	if err == nil {
		err = r.err
	}
	return files, err
}

// ReadAt implements [io.ReaderAt], to the size that the file had when it was
// listed. The error matches [ErrNotCached], and names the offset, for what the
// guest does not have in memory. A file that the guest changes meanwhile, or
// takes from memory, may be read half old, half new.
func (f *MappedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.cache.readAt(p, off, f.Size)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", f.Path, err)
	}
	return n, err
}

// Addr returns where the process has mapped, to be executed, what is at an offset
// in the file. A file that is mapped twice has the first.
func (f *MappedFile) Addr(offset uint64) (vmi.VirtAddr, bool) {
	for _, m := range f.Maps {
		if va, ok := (Area{Start: m.Start, End: m.End, Offset: m.Offset}).Addr(offset); ok && m.Execute {
			return va, true
		}
	}
	return 0, false
}

// Frame returns the frame that the page cache has the byte at an offset in. The
// error matches [ErrNotCached] if there is none. A process that has written to a
// private mapping has a frame of its own instead.
func (f *MappedFile) Frame(offset uint64) (xen.GFN, error) {
	if f.Size < 0 || offset >= uint64(f.Size) {
		return 0, fmt.Errorf("%s: offset %#x is beyond its end", f.Path, offset)
	}
	gfn, err := f.cache.frame(offset >> xen.PageShift)
	if err != nil {
		return 0, fmt.Errorf("%s: offset %#x: %w", f.Path, offset, err)
	}
	return gfn, nil
}

// Area is a range of a process's addresses as kernel functions are passed it, by
// the address of its vm_area_struct.
type Area struct {
	// MM is the mm_struct that it is in, see [Kernel.RootAt].
	MM         vmi.VirtAddr
	Start, End vmi.VirtAddr
	// Offset is where in the file it begins.
	Offset uint64
}

// Area reads the vm_area_struct at addr, if it is of the file. It does not
// allocate.
func (f *MappedFile) Area(addr vmi.VirtAddr) (a Area, ok bool, err error) {
	k := f.cache.k
	m, err := k.fields.maps.of(k)
	if err != nil {
		return Area{}, false, err
	}
	file, err := m.File.Pointer(k.as, addr)
	if err != nil || file == 0 {
		return Area{}, false, err
	}
	mapping, err := f.cache.f.FileMapping.Pointer(k.as, file)
	if err != nil || mapping != f.cache.mapping {
		return Area{}, false, err
	}
	var errs [4]error
	a.MM, errs[0] = m.MM.Pointer(k.as, addr)
	a.Start, errs[1] = m.Start.Pointer(k.as, addr)
	a.End, errs[2] = m.End.Pointer(k.as, addr)
	a.Offset, errs[3] = m.Offset.Uint(k.as, addr)
	a.Offset <<= xen.PageShift
	for _, err := range errs {
		if err != nil {
			return Area{}, false, err
		}
	}
	return a, true, nil
}

// Areas yields the ranges that a task's process has of the file, in ascending order.
// The error is [ErrNoMM] for a kernel thread and a task that has exited.
func (f *MappedFile) Areas(t Task) iter.Seq2[Area, error] {
	return func(yield func(Area, error) bool) {
		err := f.areas(t, func(a Area) bool { return yield(a, nil) })
		if err != nil {
			yield(Area{}, fmt.Errorf("ranges of the task at %v: %w", t.Addr, err))
		}
	}
}

func (f *MappedFile) areas(t Task, yield func(Area) bool) error {
	k := t.k
	m, err := k.fields.maps.of(k)
	if err != nil {
		return err
	}
	mm, _, err := t.user()
	if err != nil {
		return err
	}
	r := mapReader{k: k, f: m, r: &reader{s: k.as}}
	var end vmi.VirtAddr
	count := 0
	for addr, err := range r.areas(mm) {
		if err != nil {
			return err
		}
		if count++; count > maxMaps {
			return fmt.Errorf("%w: more than %d ranges", ErrCorrupt, maxMaps)
		}
		a, ok, err := f.Area(addr)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if a.Start < end || a.End <= a.Start { // ascending, so that it ends
			return fmt.Errorf("%w: %v-%v follows an end at %v", ErrCorrupt, a.Start, a.End, end)
		}
		if end = a.End; !yield(a) {
			return nil
		}
	}
	return r.r.err
}

// Addr returns where the range has what is at an offset in the file.
func (a Area) Addr(offset uint64) (vmi.VirtAddr, bool) {
	if offset < a.Offset || offset-a.Offset >= uint64(a.End-a.Start) || a.End < a.Start {
		return 0, false
	}
	return a.Start + vmi.VirtAddr(offset-a.Offset), true
}

// DirectMap returns the address that the kernel itself has for physical memory.
func (k *Kernel) DirectMap(a vmi.PhysAddr) (vmi.VirtAddr, error) {
	sym, err := k.syms.Lookup("page_offset_base")
	if err != nil {
		return 0, err
	}
	base, err := (Field{Path: "page_offset_base", Size: 8}).Pointer(k.as, sym)
	if err != nil {
		return 0, err
	}
	return base + vmi.VirtAddr(a), nil
}
