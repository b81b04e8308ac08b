package linux

import (
	"fmt"

	"github.com/govmi/govmi/vmi"
)

// Namespaces are those of a task, by the inodes that the links in /proc/PID/ns
// name. A number is 0 if the kernel lacks that kind.
type Namespaces struct {
	Cgroup, IPC, Mount, Net, PID, PIDForChildren, Time, User, UTS uint32
}

type namespaceFields struct {
	NSProxy     Field `btf:"task_struct.nsproxy"`
	UTS         Field `btf:"nsproxy.uts_ns"`
	IPC         Field `btf:"nsproxy.ipc_ns"`
	Mount       Field `btf:"nsproxy.mnt_ns"`
	Net         Field `btf:"nsproxy.net_ns"`
	Cgroup      Field `btf:"nsproxy.cgroup_ns?"`
	Time        Field `btf:"nsproxy.time_ns?"`
	PIDChildren Field `btf:"nsproxy.pid_ns_for_children"`
	ThreadPID   Field `btf:"task_struct.thread_pid"`
	Level       Field `btf:"pid.level"`
	Numbers     Field `btf:"pid.numbers"`
	NumberNS    Field `btf:"upid.ns"`
	Cred        Field `btf:"task_struct.real_cred"`
	User        Field `btf:"cred.user_ns"`

	UTSInum    Field `btf:"uts_namespace.ns.inum"`
	IPCInum    Field `btf:"ipc_namespace.ns.inum?"`
	MountInum  Field `btf:"mnt_namespace.ns.inum"`
	NetInum    Field `btf:"net.ns.inum"`
	CgroupInum Field `btf:"cgroup_namespace.ns.inum?"`
	TimeInum   Field `btf:"time_namespace.ns.inum?"`
	PIDInum    Field `btf:"pid_namespace.ns.inum"`
	UserInum   Field `btf:"user_namespace.ns.inum"`
}

// maxPIDLevel is the kernel's own bound of nested pid namespaces.
const maxPIDLevel = 32

// Namespaces returns the task's namespaces. A task that has exited has only its
// user namespace left.
func (t Task) Namespaces() (Namespaces, error) {
	k := t.k
	f, err := k.fields.namespace.of(k)
	if err != nil {
		return Namespaces{}, err
	}
	r := &reader{s: k.as}
	var n Namespaces
	n.User = uint32(r.uint(f.UserInum, r.ptr(f.User, r.ptr(f.Cred, t.Addr))))
	proxy := r.ptr(f.NSProxy, t.Addr)
	if proxy == 0 || r.err != nil {
		return n, r.err
	}
	for _, ns := range []struct {
		to         *uint32
		from, inum Field
	}{
		{&n.UTS, f.UTS, f.UTSInum}, {&n.IPC, f.IPC, f.IPCInum}, {&n.Mount, f.Mount, f.MountInum}, {&n.Net, f.Net, f.NetInum},
		{&n.Cgroup, f.Cgroup, f.CgroupInum}, {&n.Time, f.Time, f.TimeInum}, {&n.PIDForChildren, f.PIDChildren, f.PIDInum},
	} {
		if ns.from.Size == 0 || ns.inum.Size == 0 {
			continue
		}
		if at := r.ptr(ns.from, proxy); at != 0 {
			*ns.to = uint32(r.uint(ns.inum, at))
		}
	}
	if pid := r.ptr(f.ThreadPID, t.Addr); pid != 0 {
		level := r.uint(f.Level, pid)
		size, err := k.sizeof("upid")
		if err != nil {
			return n, err
		}
		if r.err == nil && level > maxPIDLevel {
			return n, fmt.Errorf("%w: pid namespace of level %d", ErrCorrupt, level)
		}
		number := r.in(f.Numbers, pid) + vmi.VirtAddr(level*uint64(size))
		n.PID = uint32(r.uint(f.PIDInum, r.ptr(f.NumberNS, number)))
	}
	return n, r.err
}
