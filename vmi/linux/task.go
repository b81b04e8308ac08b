package linux

import (
	"errors"
	"iter"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

var errTODO = errors.New("not implemented")

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

// Is reports whether the name is s. It does not allocate.
func (c Comm) Is(s string) bool { return len(s) < len(c) && string(c[:len(s)]) == s && c[len(s)] == 0 }

// Task is a thread of the guest: the address of its task_struct. It is a
// value; it does not keep the guest's task alive.
type Task struct {
	Addr vmi.VirtAddr
	k    *Kernel
}

// CurrentTask returns the task that the vCPU with registers r executes. It
// does not allocate.
func (k *Kernel) CurrentTask(r *xen.Registers) (Task, error) { return Task{}, errTODO }

// PID returns the thread's id, which strace and gettid call tid.
func (t Task) PID() (int32, error) { return 0, errTODO }

// TGID returns the id of the thread's process, which getpid returns.
func (t Task) TGID() (int32, error) { return 0, errTODO }

// Comm returns the thread's name. It does not allocate.
func (t Task) Comm() (Comm, error) { return Comm{}, errTODO }

// Root returns the root of the task's page tables, without PCID: under KPTI
// that of the kernel half (see [Kernel.KPTI]). The error is [ErrNoMM] for a
// kernel thread.
func (t Task) Root() (vmi.CR3, error) { return 0, errTODO }

// GroupLeader returns the main thread of the task's process.
func (t Task) GroupLeader() (Task, error) { return Task{}, errTODO }

// KPTI reports whether the kernel runs user code on page tables of their own.
// Their root is the kernel half's with bit 12 set.
func (k *Kernel) KPTI() bool { return false }

// Tasks yields the processes, each by its main thread, without the idle task.
func (k *Kernel) Tasks() iter.Seq2[Task, error] { return func(func(Task, error) bool) {} }

// Threads yields all threads of all processes.
func (k *Kernel) Threads() iter.Seq2[Task, error] { return func(func(Task, error) bool) {} }

// ThreadsOf yields the threads of t's process.
func (k *Kernel) ThreadsOf(t Task) iter.Seq2[Task, error] { return func(func(Task, error) bool) {} }

// TaskByPID returns the thread with id pid, or [ErrNoTask].
func (k *Kernel) TaskByPID(pid int32) (Task, error) { return Task{}, errTODO }

// TasksByComm returns the processes whose main thread has the name, or
// [ErrNoTask] if there is none. As in the kernel, 15 bytes of it count.
func (k *Kernel) TasksByComm(name string) ([]Task, error) { return nil, errTODO }
