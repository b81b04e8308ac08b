// Lsof lists the files that the processes of a Linux guest have open, without
// anything running in it.
//
//	lsof -domain guest -pid 214
package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	var pid int
	return view.Tool{
		Name: "lsof", About: "Lists the files that the processes of a Linux guest have open.",
		Flags: func(f *flag.FlagSet) {
			f.IntVar(&pid, "pid", 0, "of the process with this `id` only")
		},
		Run: func(g *view.Guest) error {
			files := func(yield func(file, error) bool) { read(g.Kernel, int32(pid), yield) }
			return view.List(g, "COMMAND PID UID FD TYPE DEVICE INODE NAME", files, func(f file) []any {
				return []any{f.Comm, f.PID, f.UID, f.FD, f.kind(), f.Device, f.Inode, f.name()}
			})
		},
	}
}

// file is an open file, or with words for a descriptor a directory or a program.
type file struct {
	PID  int32
	UID  uint32
	Comm string
	FD   string
	linux.File
}

func read(k *linux.Kernel, pid int32, yield func(file, error) bool) {
	for p, err := range k.Processes() {
		if err != nil {
			yield(file{}, err)
			return
		}
		if pid != 0 && p.PID != pid {
			continue
		}
		if !ofProcess(p, yield) {
			return
		}
	}
}

func ofProcess(p linux.Process, yield func(file, error) bool) (more bool) {
	root, cwd, err1 := p.Task.Dirs()
	exe, err2 := p.Task.Exe()
	if err := errors.Join(err1, err2); err != nil {
		return yield(file{}, err)
	}
	one := file{PID: p.PID, UID: p.EUID, Comm: p.Comm}
	for _, f := range []struct{ fd, path string }{{"cwd", cwd}, {"root", root}, {"exe", exe}} {
		one.FD, one.Path = f.fd, f.path
		if f.path != "" && !yield(one, nil) {
			return false
		}
	}
	for f, err := range p.Task.Files() {
		one.FD, one.File = fmt.Sprint(f.FD), f
		if !yield(one, err) || err != nil {
			return false
		}
	}
	return true
}

// kind names the inode's type, as in st_mode.
func (f file) kind() string {
	if f.Socket != nil {
		return "sock"
	}
	kinds := map[uint32]string{0o010000: "fifo", 0o020000: "char", 0o040000: "dir", 0o060000: "block", 0o100000: "file", 0o120000: "link"}
	return kinds[f.Mode&0o170000]
}

func (f file) name() string {
	s := f.Socket
	switch {
	case s == nil:
		return f.Path
	case s.Local.IsValid():
		return fmt.Sprintf("%s %v->%v %v", f.Path, s.Local, s.Remote, s.State)
	}
	return fmt.Sprintf("%s %s", f.Path, s.Path)
}
