package linux

import (
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

// File is a file that a process has open.
type File struct {
	// FD is the descriptor.
	FD int
	// Path is its name, as the link in /proc/PID/fd shows it.
	Path string
	// Flags are those of open(2), Mode the inode's type and permissions, as
	// stat(2) gives them.
	Flags, Mode uint32
	Pos         int64
	Inode       uint64
	// Device is that of the file system.
	Device Device
	// Socket is nil if it is none.
	Socket *Socket `json:",omitempty"`
}

type fileFields struct {
	Files   Field `btf:"task_struct.files"`
	Table   Field `btf:"files_struct.fdt"`
	Max     Field `btf:"fdtable.max_fds"`
	FD      Field `btf:"fdtable.fd"`
	Open    Field `btf:"fdtable.open_fds"`
	OnExec  Field `btf:"fdtable.close_on_exec"`
	Path    Field `btf:"file.f_path"`
	Inode   Field `btf:"file.f_inode"`
	Flags   Field `btf:"file.f_flags"`
	Pos     Field `btf:"file.f_pos"`
	Private Field `btf:"file.private_data"`
	FS      Field `btf:"task_struct.fs"`
	Root    Field `btf:"fs_struct.root"`
	Dir     Field `btf:"fs_struct.pwd"`
	Exe     Field `btf:"mm_struct.exe_file"`
}

const (
	maxFDs = 1 << 22 // Linux allows 2^20 by default

	modeType    = 0o170000
	modeSocket  = 0o140000
	modeRegular = 0o100000
	oCloexec    = 0o2000000
)

// Files yields what the task's process has open, by descriptor. A task that has
// exited has nothing open.
func (t Task) Files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		err := t.files(yield)
		if err != nil {
			yield(File{}, fmt.Errorf("files of the task at %v: %w", t.Addr, err))
		}
	}
}

func (t Task) files(yield func(File, error) bool) error {
	k := t.k
	f, err := k.fields.file.of(k)
	if err != nil {
		return err
	}
	r := &reader{s: k.as}
	files := r.ptr(f.Files, t.Addr)
	if files == 0 {
		return r.err
	}
	table := r.ptr(f.Table, files)
	n, fds := r.uint(f.Max, table), r.ptr(f.FD, table)
	open, onExec := r.ptr(f.Open, table), r.ptr(f.OnExec, table)
	if r.err == nil && n > maxFDs {
		return fmt.Errorf("%w: %d descriptors", ErrCorrupt, n)
	}
	word := Field{Path: "bitmap of descriptors", Size: 8}
	for base := uint64(0); base < n && r.err == nil; base += 64 {
		bits := r.uint(word, open+vmi.VirtAddr(base/8))
		if bits == 0 {
			continue
		}
		exec := r.uint(word, onExec+vmi.VirtAddr(base/8))
		for i := range min(64, n-base) {
			if bits>>i&1 == 0 {
				continue
			}
			at := r.ptr(Field{Path: "descriptor", Size: 8}, fds+vmi.VirtAddr(8*(base+i)))
			if at == 0 {
				continue // reserved, not open yet
			}
			file := k.file(r, f, at)
			file.FD = int(base + i)
			if exec>>i&1 != 0 {
				file.Flags |= oCloexec
			}
			if r.err != nil {
				return r.err
			}
			if !yield(file, nil) {
				return nil
			}
		}
	}
	return r.err
}

// file reads a struct file.
func (k *Kernel) file(r *reader, f *fileFields, at vmi.VirtAddr) File {
	p, err := k.fields.path.of(k)
	if err != nil {
		r.fail(err)
		return File{}
	}
	inode := r.ptr(f.Inode, at)
	file := File{
		Path:  k.pathAt(r, r.in(f.Path, at)),
		Flags: uint32(r.uint(f.Flags, at)) &^ oCloexec,
		Pos:   int64(r.uint(f.Pos, at)),
		Mode:  uint32(r.uint(p.Mode, inode)), Inode: r.uint(p.Ino, inode),
		Device: deviceNumber(r.uint(p.SuperDev, r.ptr(p.InodeSuper, inode))),
	}
	if file.Mode&modeType == modeSocket {
		s := k.socketOf(r, r.ptr(f.Private, at))
		file.Socket = &s
	}
	return file
}

// Exe returns the path of the program that the task's process runs. It is empty
// for a kernel thread and a task that has exited.
func (t Task) Exe() (string, error) {
	f, err := t.k.fields.file.of(t.k)
	if err != nil {
		return "", err
	}
	r := &reader{s: t.k.as}
	mm := r.ptr(t.k.task.mm, t.Addr)
	if mm == 0 {
		return "", r.err
	}
	file := r.ptr(f.Exe, mm)
	if file == 0 {
		return "", r.err
	}
	return t.k.pathAt(r, r.in(f.Path, file)), r.err
}

// Dirs returns the paths of the task's root and working directories. They are
// empty for a task that has exited.
func (t Task) Dirs() (root, cwd string, err error) {
	f, err := t.k.fields.file.of(t.k)
	if err != nil {
		return "", "", err
	}
	r := &reader{s: t.k.as}
	fs := r.ptr(f.FS, t.Addr)
	if fs == 0 {
		return "", "", r.err
	}
	return t.k.pathAt(r, r.in(f.Root, fs)), t.k.pathAt(r, r.in(f.Dir, fs)), r.err
}
