package linux

import (
	"fmt"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Comm is a task's name as the kernel keeps it, padded with NUL bytes.
type Comm [16]byte

func (c Comm) String() string {
	for i, b := range c {
		if b == 0 {
			return string(c[:i])
		}
	}
	return string(c[:])
}

// Is reports whether the name is s. As in the kernel, 15 bytes of s count. It
// does not allocate.
func (c Comm) Is(s string) bool {
	if len(s) > len(c)-1 {
		s = s[:len(c)-1]
	}
	return string(c[:len(s)]) == s && c[len(s)] == 0
}

// Task is a thread of the guest: the address of its task_struct. It is a
// value; it does not keep the guest's task alive.
type Task struct {
	Addr vmi.VirtAddr
	k    *Kernel
}

// taskFields are the members that tasks are read by.
type taskFields struct {
	init vmi.VirtAddr // init_task

	pid, tgid, comm, mm, tasks, threadNode, signal, groupLeader Field
	threadHead, live                                            Field // signal_struct
	pgd                                                         Field // mm_struct
	next                                                        Field // list_head
}

func (f *taskFields) resolve(k *Kernel) error {
	var err error
	if f.init, err = k.syms.Lookup("init_task"); err != nil {
		return err
	}
	for _, m := range []struct {
		path string
		to   *Field
		size uint32 // 0: any
	}{
		{"task_struct.pid", &f.pid, 4},
		{"task_struct.tgid", &f.tgid, 4},
		{"task_struct.comm", &f.comm, 16},
		{"task_struct.mm", &f.mm, 8},
		{"task_struct.tasks", &f.tasks, 0},
		{"task_struct.thread_node", &f.threadNode, 0},
		{"task_struct.signal", &f.signal, 8},
		{"task_struct.group_leader", &f.groupLeader, 8},
		{"signal_struct.thread_head", &f.threadHead, 0},
		{"signal_struct.live.counter", &f.live, 4},
		{"mm_struct.pgd", &f.pgd, 8},
		{"list_head.next", &f.next, 8},
	} {
		if *m.to, err = k.Field(m.path); err != nil {
			return err
		}
		if m.size != 0 && m.to.Size != m.size {
			return fmt.Errorf("%w: %s has %d bytes", ErrCorrupt, m.path, m.to.Size)
		}
	}
	return nil
}

// TaskAt returns the task whose task_struct is at addr, as kernel functions are
// passed it. The error matches [ErrCorrupt] for an address that cannot be one.
func (k *Kernel) TaskAt(addr vmi.VirtAddr) (Task, error) { return k.newTask(addr) }

// newTask checks that a pointer can be one to a task.
func (k *Kernel) newTask(addr vmi.VirtAddr) (Task, error) {
	if addr < kernelHalf || addr%8 != 0 {
		return Task{}, fmt.Errorf("%w: task at %v", ErrCorrupt, addr)
	}
	return Task{addr, k}, nil
}

// CurrentTask returns the task that the vCPU with registers r executes. The
// error is [ErrNotInKernel] if neither GS base is the kernel's. It does not
// allocate.
func (k *Kernel) CurrentTask(r *xen.Registers) (Task, error) {
	base, err := k.percpu.base(r, k.entry)
	return k.currentAt(base, err)
}

// CurrentTaskOn is CurrentTask for an event of a vCPU. On AMD Xen has the GS base that
// is not in use as it was some time ago (svm_save_cpu_state), so that registers of user
// mode may not tell. In user mode it goes by what they told of the vCPU when the kernel
// was opened, or when this method was asked about one in the kernel. It does not
// allocate.
func (k *Kernel) CurrentTaskOn(v xen.VCPU, r *xen.Registers) (Task, error) {
	base, err := k.percpu.baseOn(v, r, k.entry)
	return k.currentAt(base, err)
}

func (k *Kernel) currentAt(base vmi.VirtAddr, err error) (Task, error) {
	if err != nil {
		return Task{}, err
	}
	addr, err := k.as.Uint64(base + k.percpu.current)
	if err != nil {
		return Task{}, err
	}
	return k.newTask(vmi.VirtAddr(addr))
}

// PID returns the thread's id, which strace and gettid call tid.
func (t Task) PID() (int32, error) {
	v, err := t.k.task.pid.Uint(t.k.as, t.Addr)
	return int32(v), err
}

// TGID returns the id of the thread's process, which getpid returns.
func (t Task) TGID() (int32, error) {
	v, err := t.k.task.tgid.Uint(t.k.as, t.Addr)
	return int32(v), err
}

// Comm returns the thread's name. It does not allocate.
func (t Task) Comm() (Comm, error) {
	var c Comm
	_, err := t.k.as.Read(t.Addr+vmi.VirtAddr(t.k.task.comm.Offset), c[:])
	return c, err
}

// Root returns the root of the task's page tables, without PCID: under KPTI
// that of the kernel half (see [Kernel.KPTI]), which maps the process's memory
// too. The error is [ErrNoMM] for a kernel thread and for a task that has
// exited.
func (t Task) Root() (vmi.CR3, error) {
	mm, err := t.k.task.mm.Pointer(t.k.as, t.Addr)
	if err != nil {
		return 0, err
	}
	if mm == 0 {
		return 0, ErrNoMM
	}
	root, err := t.k.RootAt(mm)
	if err != nil {
		return 0, fmt.Errorf("task at %v: %w", t.Addr, err)
	}
	return root, nil
}

// RootAt returns the root, as [Task.Root] does, of the page tables of the
// mm_struct at addr.
func (k *Kernel) RootAt(addr vmi.VirtAddr) (vmi.CR3, error) {
	pgd, err := k.task.pgd.Pointer(k.as, addr)
	if err != nil {
		return 0, err
	}
	pa, err := k.as.Translate(pgd)
	if err != nil {
		return 0, fmt.Errorf("page tables: %w", err)
	}
	if pa.Offset() != 0 {
		return 0, fmt.Errorf("%w: page tables at %v", ErrCorrupt, pa)
	}
	return vmi.CR3(pa), nil
}

// Alive returns how many threads of the task's process have not begun to exit.
func (t Task) Alive() (int, error) {
	signal, err := t.k.task.signal.Pointer(t.k.as, t.Addr)
	if err != nil {
		return 0, err
	}
	n, err := t.k.task.live.Uint(t.k.as, signal)
	return int(int32(n)), err
}

// GroupLeader returns the main thread of the task's process.
func (t Task) GroupLeader() (Task, error) {
	addr, err := t.k.task.groupLeader.Pointer(t.k.as, t.Addr)
	if err != nil {
		return Task{}, err
	}
	return t.k.newTask(addr)
}
