package linux

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strings"
	"time"

	"github.com/govmi/govmi/vmi"
)

// State is what a thread does, by the letter that ps(1) prints: R runs or waits
// for a CPU, S sleeps, D sleeps and cannot be woken by a signal, T is stopped, t
// traced, X dead, Z a zombie, P parked, I idle.
type State byte

func (s State) String() string { return string(rune(s)) }

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte{byte(s)}, nil }

// Credentials are the identities that a thread acts under.
type Credentials struct {
	UID, EUID, SUID, FSUID uint32
	GID, EGID, SGID, FSGID uint32
}

// Process describes a process, by its main thread, or one of its threads, at
// the time of reading. Names are those of the guest's initial namespaces.
type Process struct {
	Task Task `json:"-"`
	// PID is the thread's id, TGID that of its process; of a process both are
	// the same. Parent is the process that is to reap it, Group and Session are
	// 0 for a thread that has exited.
	PID, TGID, Parent, Group, Session int32

	Comm    string
	State   State
	Threads int
	// Kernel marks a thread of the kernel itself.
	Kernel bool
	Credentials
	// Start is when it began, after the guest's boot.
	Start time.Duration
}

// processFields are the members that processes are described by.
type processFields struct {
	State      Field `btf:"task_struct.__state|task_struct.state"` // renamed in 5.14
	ExitState  Field `btf:"task_struct.exit_state"`
	Flags      Field `btf:"task_struct.flags"`
	RealParent Field `btf:"task_struct.real_parent"`
	Start      Field `btf:"task_struct.start_boottime"`
	RealCred   Field `btf:"task_struct.real_cred"`
	PIDs       Field `btf:"signal_struct.pids"`
	Threads    Field `btf:"signal_struct.nr_threads"`
	Numbers    Field `btf:"pid.numbers"`
	NumberNr   Field `btf:"upid.nr"`
	UID        Field `btf:"cred.uid"`
	GID        Field `btf:"cred.gid"`
	SUID       Field `btf:"cred.suid"`
	SGID       Field `btf:"cred.sgid"`
	EUID       Field `btf:"cred.euid"`
	EGID       Field `btf:"cred.egid"`
	FSUID      Field `btf:"cred.fsuid"`
	FSGID      Field `btf:"cred.fsgid"`
	ArgStart   Field `btf:"mm_struct.arg_start"`
	ArgEnd     Field `btf:"mm_struct.arg_end"`
	EnvStart   Field `btf:"mm_struct.env_start"`
	EnvEnd     Field `btf:"mm_struct.env_end"`
}

// Indices of signal_struct.pids (enum pid_type).
const (
	pidTypePGID = 2
	pidTypeSID  = 3
)

const pfKThread = 0x00200000 // task_struct.flags

// Info describes the thread.
func (t Task) Info() (Process, error) {
	f, err := t.k.fields.process.of(t.k)
	if err != nil {
		return Process{}, err
	}
	tf := &t.k.task
	r := &reader{s: t.k.as}
	p := Process{
		Task: t,
		PID:  int32(r.uint(tf.pid, t.Addr)), TGID: int32(r.uint(tf.tgid, t.Addr)),
		Kernel: r.uint(f.Flags, t.Addr)&pfKThread != 0,
		State:  taskState(r.uint(f.State, t.Addr), r.uint(f.ExitState, t.Addr)),
		Start:  time.Duration(r.uint(f.Start, t.Addr)),
	}
	if parent := r.ptr(f.RealParent, t.Addr); parent != 0 {
		p.Parent = int32(r.uint(tf.tgid, parent))
	}
	if signal := r.ptr(tf.signal, t.Addr); signal != 0 {
		p.Threads = int(int32(r.uint(f.Threads, signal)))
		pids := r.in(f.PIDs, signal)
		p.Group = pidNumber(r, f, pids+8*pidTypePGID)
		p.Session = pidNumber(r, f, pids+8*pidTypeSID)
	}
	cred := r.ptr(f.RealCred, t.Addr)
	for _, c := range []struct {
		to   *uint32
		from Field
	}{
		{&p.UID, f.UID}, {&p.EUID, f.EUID}, {&p.SUID, f.SUID}, {&p.FSUID, f.FSUID},
		{&p.GID, f.GID}, {&p.EGID, f.EGID}, {&p.SGID, f.SGID}, {&p.FSGID, f.FSGID},
	} {
		*c.to = uint32(r.uint(c.from, cred))
	}
	comm, err := t.Comm()
	p.Comm = comm.String()
	if err := errors.Join(r.err, err); err != nil {
		return Process{}, fmt.Errorf("task at %v: %w", t.Addr, err)
	}
	return p, nil
}

// pidNumber returns the number in the initial namespace of the struct pid that
// the pointer at at leads to, or 0 if there is none.
func pidNumber(r *reader, f *processFields, at vmi.VirtAddr) int32 {
	pid := r.ptr(Field{Path: f.PIDs.Path, Size: 8}, at)
	if pid == 0 {
		return 0
	}
	return int32(r.uint(f.NumberNr, r.in(f.Numbers, pid)))
}

// taskState combines the two states that a task has, as the kernel does for
// /proc (include/linux/sched.h, __task_state_index).
func taskState(state, exit uint64) State {
	const (
		uninterruptible = 0x0002
		report          = 0x007f
		idle            = 0x0402 // uninterruptible, and no load
		rtLockWait      = 0x1000
		frozen          = 0x8000
	)
	s := (state | exit) & report
	switch {
	case state&idle == idle:
		return 'I'
	case s == 0 && state&(rtLockWait|frozen) != 0:
		s = uninterruptible
	}
	return State("RSDTtXZP"[bits.Len64(s)])
}

// Processes yields all processes by their main threads, as [Kernel.Tasks] does.
func (k *Kernel) Processes() iter.Seq2[Process, error] { return infos(k.Tasks()) }

// ThreadInfos yields all threads of all processes, as [Kernel.Threads] does.
func (k *Kernel) ThreadInfos() iter.Seq2[Process, error] { return infos(k.Threads()) }

func infos(tasks iter.Seq2[Task, error]) iter.Seq2[Process, error] {
	return func(yield func(Process, error) bool) {
		for t, err := range tasks {
			var p Process
			if err == nil {
				p, err = t.Info()
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// maxArgs bounds the arguments and the environment: a quarter of an ordinary
// stack, as in the kernel.
const maxArgs = 2 << 20

// Args returns the arguments of the task's process: what /proc/PID/cmdline
// shows. It is empty for a kernel thread, a process that has exited, and one
// that has overwritten them with nothing. The error matches [vmi.ErrPagedOut] if
// the guest has swapped them out.
func (t Task) Args() ([]string, error) {
	f, err := t.k.fields.process.of(t.k)
	if err != nil {
		return nil, err
	}
	b, err := t.stackText(f.ArgStart, f.ArgEnd)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	if b[len(b)-1] == 0 {
		return splitText(b), nil
	}
	// The process has written a title over its arguments, maybe on into the
	// environment: it ends at a NUL.
	if bytes.IndexByte(b, 0) < 0 {
		env, err := t.stackText(f.EnvStart, f.EnvEnd)
		if err != nil {
			return nil, err
		}
		b = append(b, env...)
	}
	title, _, _ := bytes.Cut(b, []byte{0})
	return []string{string(title)}, nil
}

// Env returns the environment that the task's process was started with, as
// "NAME=value", as [Task.Args] returns the arguments.
func (t Task) Env() ([]string, error) {
	f, err := t.k.fields.process.of(t.k)
	if err != nil {
		return nil, err
	}
	b, err := t.stackText(f.EnvStart, f.EnvEnd)
	return splitText(b), err
}

func splitText(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// stackText reads what the kernel put above the process's stack at its start,
// between two addresses that the mm_struct has. There is none without one.
func (t Task) stackText(from, to Field) ([]byte, error) {
	mm, s, err := t.user()
	if errors.Is(err, ErrNoMM) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &reader{s: t.k.as}
	start, end := r.ptr(from, mm), r.ptr(to, mm)
	if r.err != nil {
		return nil, r.err
	}
	if start > end || end-start > maxArgs {
		return nil, fmt.Errorf("%w: %s is %v and %s is %v", ErrCorrupt, from.Path, start, to.Path, end)
	}
	b := make([]byte, end-start)
	if _, err := s.Read(start, b); err != nil {
		return nil, fmt.Errorf("task at %v: %w", t.Addr, err)
	}
	return b, nil
}

// user returns the mm_struct of the task's process and its address space. The
// error is [ErrNoMM] if there is none.
func (t Task) user() (vmi.VirtAddr, vmi.AddressSpace, error) {
	mm, err := t.k.task.mm.Pointer(t.k.as, t.Addr)
	if err != nil {
		return 0, vmi.AddressSpace{}, err
	}
	if mm == 0 {
		return 0, vmi.AddressSpace{}, ErrNoMM
	}
	root, err := t.k.RootAt(mm)
	if err != nil {
		return 0, vmi.AddressSpace{}, fmt.Errorf("task at %v: %w", t.Addr, err)
	}
	return mm, t.k.as.WithRoot(root), nil
}

// AddressSpace returns the task's user memory. The error is [ErrNoMM] for a
// kernel thread and for a task that has exited.
func (t Task) AddressSpace() (vmi.AddressSpace, error) {
	_, s, err := t.user()
	return s, err
}
