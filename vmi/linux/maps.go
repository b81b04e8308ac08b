package linux

import (
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

// Map is a range of a process's addresses with one purpose.
type Map struct {
	Start, End                   vmi.VirtAddr
	Read, Write, Execute, Shared bool
	// Name is the file's path, or "[heap]" and the like, as in
	// /proc/PID/maps; the range has no name if it is empty.
	Name string
	// Of a file: where in it the range begins, and which it is.
	Offset uint64
	Device Device
	Inode  uint64
}

// Perm returns the permissions as /proc/PID/maps shows them.
func (m Map) Perm() string {
	b := []byte("---p")
	for i, set := range []bool{m.Read, m.Write, m.Execute} {
		if set {
			b[i] = "rwx"[i]
		}
	}
	if m.Shared {
		b[3] = 's'
	}
	return string(b)
}

type mapFields struct {
	First      Field `btf:"mm_struct.mmap?"`  // a list, up to 6.0
	Tree       Field `btf:"mm_struct.mm_mt?"` // a maple tree since
	Brk        Field `btf:"mm_struct.brk"`
	StartBrk   Field `btf:"mm_struct.start_brk"`
	StartStack Field `btf:"mm_struct.start_stack"`
	MM         Field `btf:"vm_area_struct.vm_mm"`
	Start      Field `btf:"vm_area_struct.vm_start"`
	End        Field `btf:"vm_area_struct.vm_end"`
	Next       Field `btf:"vm_area_struct.vm_next?"`
	Flags      Field `btf:"vm_area_struct.vm_flags"`
	Offset     Field `btf:"vm_area_struct.vm_pgoff"`
	File       Field `btf:"vm_area_struct.vm_file"`
	Ops        Field `btf:"vm_area_struct.vm_ops"`
	Private    Field `btf:"vm_area_struct.vm_private_data"`
	AnonName   Field `btf:"vm_area_struct.anon_name?"`
	AnonText   Field `btf:"anon_vma_name.name?"`
	Special    Field `btf:"vm_special_mapping.name"`
}

const (
	// maxMaps bounds the ranges of a process; Linux allows 65,530 by default.
	maxMaps = 1 << 22

	// vm_area_struct.vm_flags (include/linux/mm.h).
	vmRead, vmWrite, vmExec, vmMayShare = 1, 2, 4, 0x80
)

// Maps yields the ranges of the task's process in ascending order, but for
// [vsyscall], which all processes have. The error is [ErrNoMM] for a kernel
// thread and a task that has exited.
func (t Task) Maps() iter.Seq2[Map, error] {
	return func(yield func(Map, error) bool) {
		err := t.maps(func(_ vmi.VirtAddr, m Map) bool { return yield(m, nil) })
		if err != nil {
			yield(Map{}, fmt.Errorf("maps of the task at %v: %w", t.Addr, err))
		}
	}
}

// maps yields the ranges with their vm_area_structs.
func (t Task) maps(yield func(area vmi.VirtAddr, m Map) bool) error {
	k := t.k
	f, err := k.fields.maps.of(k)
	if err != nil {
		return err
	}
	mm, _, err := t.user()
	if err != nil {
		return err
	}
	r := &reader{s: k.as}
	m := mapReader{k: k, f: f, r: r,
		brk: r.ptr(f.Brk, mm), startBrk: r.ptr(f.StartBrk, mm), startStack: r.ptr(f.StartStack, mm)}
	var end vmi.VirtAddr
	count := 0
	for area, err := range m.areas(mm) {
		if err != nil {
			return err
		}
		one := m.read(area)
		if r.err != nil {
			return r.err
		}
		// Ascending, so it ends.
		if count++; one.Start < end || one.End <= one.Start || count > maxMaps {
			return fmt.Errorf("%w: %v-%v follows an end at %v", ErrCorrupt, one.Start, one.End, end)
		}
		end = one.End
		if !yield(area, one) {
			return nil
		}
	}
	return r.err
}

// mapReader reads the ranges of one mm_struct.
type mapReader struct {
	k                         *Kernel
	f                         *mapFields
	r                         *reader
	brk, startBrk, startStack vmi.VirtAddr
}

// areas yields the vm_area_structs.
func (m *mapReader) areas(mm vmi.VirtAddr) iter.Seq2[vmi.VirtAddr, error] {
	switch {
	case m.f.Tree.Size != 0:
		return m.k.mapleTree(m.r, m.r.in(m.f.Tree, mm))
	case m.f.First.Size != 0 && m.f.Next.Size != 0:
		return func(yield func(vmi.VirtAddr, error) bool) {
			for a := m.r.ptr(m.f.First, mm); a != 0 && yield(a, nil); {
				a = m.r.ptr(m.f.Next, a)
			}
		}
	}
	return func(yield func(vmi.VirtAddr, error) bool) {
		yield(0, fmt.Errorf("%w: neither mm_struct.mmap nor mm_struct.mm_mt", ErrNoField))
	}
}

func (m *mapReader) read(area vmi.VirtAddr) Map {
	r, f := m.r, m.f
	flags := r.uint(f.Flags, area)
	one := Map{
		Start: r.ptr(f.Start, area), End: r.ptr(f.End, area),
		Read: flags&vmRead != 0, Write: flags&vmWrite != 0, Execute: flags&vmExec != 0, Shared: flags&vmMayShare != 0,
	}
	if file := r.ptr(f.File, area); file != 0 {
		ff, err := m.k.fields.file.of(m.k)
		if err != nil {
			r.fail(err)
			return one
		}
		open := m.k.file(r, ff, file)
		one.Name, one.Device, one.Inode = open.Path, open.Device, open.Inode
		one.Offset = r.uint(f.Offset, area) << 12
		return one
	}
	one.Name = m.name(area, one)
	return one
}

// name names a range without a file (fs/proc/task_mmu.c).
func (m *mapReader) name(area vmi.VirtAddr, one Map) string {
	r, f := m.r, m.f
	if ops := r.ptr(f.Ops, area); ops != 0 {
		if sym, off, ok := m.k.syms.At(ops); ok && off == 0 && sym.Name == "special_mapping_vmops" {
			return r.cstring(r.ptr(f.Special, r.ptr(f.Private, area)), maxName)
		}
	}
	switch {
	case one.Start < m.brk && one.End > m.startBrk:
		return "[heap]"
	case one.Start <= m.startStack && one.End >= m.startStack:
		return "[stack]"
	}
	if f.AnonName.Size != 0 && f.AnonText.Path != "" {
		if name := r.ptr(f.AnonName, area); name != 0 {
			return "[anon:" + r.cstring(r.in(f.AnonText, name), maxName) + "]"
		}
	}
	return ""
}
