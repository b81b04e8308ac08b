package linux

import (
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

// Mount is a file system mounted in a mount namespace, in the terms of
// proc_pid_mountinfo(5).
type Mount struct {
	ID, Parent int
	Device     Device
	// Root is the part of the file system that is mounted, Point where.
	Root, Point string
	// Type is that of the file system, Source what it was mounted from.
	Type, Source string
	// ReadOnly says that the mount or its file system is.
	ReadOnly, NoSuid, NoDev, NoExec bool
}

type mountFields struct {
	Root     Field `btf:"mnt_namespace.root"`
	Children Field `btf:"mount.mnt_mounts"`
	Sibling  Field `btf:"mount.mnt_child"`
	ID       Field `btf:"mount.mnt_id"`
	Source   Field `btf:"mount.mnt_devname"`
	NSProxy  Field `btf:"task_struct.nsproxy"`
	MountNS  Field `btf:"nsproxy.mnt_ns"`
}

const (
	maxMounts     = 1 << 20
	maxMountDepth = 1 << 10

	// vfsmount.mnt_flags and super_block.s_flags (include/linux/mount.h, fs.h).
	mntNoSuid, mntNoDev, mntNoExec, mntReadOnly = 1, 2, 4, 0x40
	sbReadOnly                                  = 1
)

// Mounts yields what is mounted in the namespace of task t, each mount behind the
// one that it is mounted on. The initial namespace's internal root, which no
// path shows, is the first. The error is [ErrNoTask] if the task has exited.
func (t Task) Mounts() iter.Seq2[Mount, error] {
	return func(yield func(Mount, error) bool) {
		k := t.k
		f, err := k.fields.mount.of(k)
		if err == nil {
			var pf *pathFields
			if pf, err = k.fields.path.of(k); err == nil {
				w := mountWalk{k: k, f: f, p: pf, r: &reader{s: k.as}, yield: yield}
				err = w.start(t)
			}
		}
		if err != nil {
			yield(Mount{}, fmt.Errorf("mounts: %w", err))
		}
	}
}

type mountWalk struct {
	k     *Kernel
	f     *mountFields
	p     *pathFields
	r     *reader
	count int
	yield func(Mount, error) bool
}

func (w *mountWalk) start(t Task) error {
	proxy := w.r.ptr(w.f.NSProxy, t.Addr)
	if proxy == 0 && w.r.err == nil {
		return fmt.Errorf("%w: it has exited", ErrNoTask)
	}
	root := w.r.ptr(w.f.Root, w.r.ptr(w.f.MountNS, proxy))
	if w.r.err != nil {
		return w.r.err
	}
	_, err := w.below(root, 0)
	return err
}

// below yields a mount and those on it, and reports whether to go on.
func (w *mountWalk) below(mount vmi.VirtAddr, depth int) (more bool, err error) {
	if w.count++; w.count > maxMounts || depth > maxMountDepth {
		return false, fmt.Errorf("%w: the mounts do not end", ErrCorrupt)
	}
	m := w.mount(mount)
	if w.r.err != nil {
		return false, w.r.err
	}
	if !w.yield(m, nil) {
		return false, nil
	}
	for child, err := range w.k.list(w.r.in(w.f.Children, mount), w.f.Sibling.Offset) {
		if err != nil {
			return false, err
		}
		if more, err := w.below(child, depth+1); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}

func (w *mountWalk) mount(at vmi.VirtAddr) Mount {
	r, p := w.r, w.p
	vfs := r.in(p.VFSMount, at)
	super := r.ptr(p.Super, vfs)
	flags := r.uint(p.MountFlags, vfs)
	source := "none"
	if at := r.ptr(w.f.Source, at); at != 0 {
		source = r.cstring(at, maxArgs)
	}
	return Mount{
		ID: int(r.uint(w.f.ID, at)), Parent: int(r.uint(w.f.ID, r.ptr(p.MountUp, at))),
		Device: deviceNumber(r.uint(p.SuperDev, super)),
		Root:   dentryPath(r, p, r.ptr(p.MountRoot, vfs)),
		Point:  w.k.pathOf(r, p, vfs, r.ptr(p.MountRoot, vfs)),
		Type:   r.cstring(r.ptr(p.TypeName, r.ptr(p.SuperType, super)), maxName),
		Source: source,

		ReadOnly: flags&mntReadOnly != 0 || r.uint(p.SuperFlags, super)&sbReadOnly != 0,
		NoSuid:   flags&mntNoSuid != 0, NoDev: flags&mntNoDev != 0, NoExec: flags&mntNoExec != 0,
	}
}
