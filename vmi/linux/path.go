package linux

import (
	"fmt"
	"slices"
	"strings"

	"github.com/govmi/govmi/vmi"
)

type pathFields struct {
	Dentry     Field `btf:"path.dentry"`
	Mnt        Field `btf:"path.mnt"`
	Parent     Field `btf:"dentry.d_parent"`
	NameLen    Field `btf:"dentry.d_name.len"`
	Name       Field `btf:"dentry.d_name.name"`
	Hashed     Field `btf:"dentry.d_hash.pprev"`
	Inode      Field `btf:"dentry.d_inode"`
	Op         Field `btf:"dentry.d_op"`
	FSData     Field `btf:"dentry.d_fsdata"`
	MakeName   Field `btf:"dentry_operations.d_dname"`
	MountRoot  Field `btf:"vfsmount.mnt_root"`
	Super      Field `btf:"vfsmount.mnt_sb"`
	MountFlags Field `btf:"vfsmount.mnt_flags"`
	VFSMount   Field `btf:"mount.mnt"`
	MountUp    Field `btf:"mount.mnt_parent"`
	MountPoint Field `btf:"mount.mnt_mountpoint"`
	Ino        Field `btf:"inode.i_ino"`
	Mode       Field `btf:"inode.i_mode"`
	Device     Field `btf:"inode.i_rdev"`
	InodeSuper Field `btf:"inode.i_sb"`
	Private    Field `btf:"inode.i_private"`
	NSOps      Field `btf:"ns_common.ops"`
	NSName     Field `btf:"proc_ns_operations.name"`
	SuperDev   Field `btf:"super_block.s_dev"`
	SuperFlags Field `btf:"super_block.s_flags"`
	SuperType  Field `btf:"super_block.s_type"`
	SuperRoot  Field `btf:"super_block.s_root"`
	TypeName   Field `btf:"file_system_type.name"`
}

const (
	maxPathParts = 2048 // the kernel's own bound of a path is 4,096 bytes
	maxName      = 255
)

// pathAt returns the name of the struct path at at, from the root of all mounts,
// as /proc shows it: with " (deleted)" behind a name that is no more, and
// "socket:[123]" and the like for what has no name.
func (k *Kernel) pathAt(r *reader, at vmi.VirtAddr) string {
	f, err := k.fields.path.of(k)
	if err != nil {
		r.fail(err)
		return ""
	}
	return k.pathOf(r, f, r.ptr(f.Mnt, at), r.ptr(f.Dentry, at))
}

// pathOf is pathAt of a vfsmount and a dentry.
func (k *Kernel) pathOf(r *reader, f *pathFields, mnt, dentry vmi.VirtAddr) string {
	if mnt == 0 || dentry == 0 || r.err != nil {
		return ""
	}
	if name, ok := k.madeName(r, f, mnt, dentry); ok {
		return name
	}
	suffix := ""
	if r.ptr(f.Hashed, dentry) == 0 && r.ptr(f.Parent, dentry) != dentry {
		suffix = " (deleted)"
	}
	var parts []string
	for range maxPathParts {
		if r.err != nil {
			return ""
		}
		parent := r.ptr(f.Parent, dentry)
		if dentry == r.ptr(f.MountRoot, mnt) || dentry == parent {
			mount := mnt - vmi.VirtAddr(f.VFSMount.Offset)
			up := r.ptr(f.MountUp, mount)
			if up == mount || up == 0 {
				slices.Reverse(parts)
				return "/" + strings.Join(parts, "/") + suffix
			}
			mnt, dentry = r.in(f.VFSMount, up), r.ptr(f.MountPoint, mount)
			continue
		}
		parts = append(parts, dentryName(r, f, dentry))
		dentry = parent
	}
	r.fail(fmt.Errorf("%w: path of dentry %v does not end", ErrCorrupt, dentry))
	return ""
}

// dentryPath returns a name from its file system's root.
func dentryPath(r *reader, f *pathFields, dentry vmi.VirtAddr) string {
	var parts []string
	for range maxPathParts {
		parent := r.ptr(f.Parent, dentry)
		if parent == dentry || r.err != nil {
			slices.Reverse(parts)
			return "/" + strings.Join(parts, "/")
		}
		parts = append(parts, dentryName(r, f, dentry))
		dentry = parent
	}
	r.fail(fmt.Errorf("%w: path of dentry %v does not end", ErrCorrupt, dentry))
	return ""
}

func dentryName(r *reader, f *pathFields, dentry vmi.VirtAddr) string {
	n := r.uint(f.NameLen, dentry)
	if n > maxName {
		r.fail(fmt.Errorf("%w: name of dentry %v has %d bytes", ErrCorrupt, dentry, n))
	}
	return r.text(r.ptr(f.Name, dentry), int(n))
}

// text reads n bytes.
func (r *reader) text(at vmi.VirtAddr, n int) string {
	if r.err != nil || n <= 0 {
		return ""
	}
	b := make([]byte, min(n, maxMember))
	if _, err := r.s.Read(at, b); err != nil {
		r.fail(err)
		return ""
	}
	return string(b)
}

// madeName returns the name that a file system makes up (fs/d_path.c): those of
// pipes, sockets, anonymous inodes, namespaces and memory files.
func (k *Kernel) madeName(r *reader, f *pathFields, mnt, dentry vmi.VirtAddr) (string, bool) {
	op := r.ptr(f.Op, dentry)
	if op == 0 {
		return "", false
	}
	fn := r.ptr(f.MakeName, op)
	if fn == 0 || r.ptr(f.Parent, dentry) == dentry && dentry == r.ptr(f.MountRoot, mnt) {
		return "", false
	}
	sym, _, _ := k.syms.At(fn)
	inode := r.ptr(f.Inode, dentry)
	switch sym.Name {
	case "pipefs_dname":
		return fmt.Sprintf("pipe:[%d]", r.uint(f.Ino, inode)), true
	case "sockfs_dname":
		return fmt.Sprintf("socket:[%d]", r.uint(f.Ino, inode)), true
	case "anon_inodefs_dname":
		return "anon_inode:" + dentryName(r, f, dentry), true
	case "pidfs_dname": // since 6.9
		return "anon_inode:[pidfd]", true
	case "simple_dname":
		return "/" + dentryName(r, f, dentry) + " (deleted)", true
	case "ns_dname":
		// The operations were in the dentry before they were in the namespace.
		ops := r.ptr(f.FSData, dentry)
		if ops == 0 {
			ops = r.ptr(f.NSOps, r.ptr(f.Private, inode))
		}
		return fmt.Sprintf("%s:[%d]", r.cstring(r.ptr(f.NSName, ops), maxName), r.uint(f.Ino, inode)), true
	}
	return dentryName(r, f, dentry), true
}

// deviceNumber makes a device number as stat(2) gives it of the kernel's own.
func deviceNumber(dev uint64) Device { return Device{uint32(dev >> 20), uint32(dev & (1<<20 - 1))} }

// Device is the number of a device.
type Device struct{ Major, Minor uint32 }

func (d Device) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// MarshalText implements [encoding.TextMarshaler].
func (d Device) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
