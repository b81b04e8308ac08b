package linux

import (
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

// maxTasks is the kernel's own bound of process ids (PID_MAX_LIMIT).
const maxTasks = 1 << 22

// list yields the addresses of the structures in a list_head list, each of
// which has its list member at offset off; head itself is left out. It ends
// with an error if the list is longer than any of the kernel's or does not
// come back to head.
func (k *Kernel) list(head vmi.VirtAddr, off uint32) iter.Seq2[vmi.VirtAddr, error] {
	return func(yield func(vmi.VirtAddr, error) bool) {
		// Brent: remember a place, twice as far each time, and see whether the
		// walk comes back to it.
		at, mark, power, steps := head, head, 1, 0
		for range maxTasks {
			next, err := k.task.next.Pointer(k.as, at)
			if err != nil {
				yield(0, fmt.Errorf("list at %v: %w", head, err))
				return
			}
			if next == head {
				return
			}
			if next == mark || next < kernelHalf || next%8 != 0 {
				yield(0, fmt.Errorf("%w: list at %v", ErrCorrupt, head))
				return
			}
			if steps++; steps == power {
				mark, power, steps = next, 2*power, 0
			}
			if !yield(next-vmi.VirtAddr(off), nil) {
				return
			}
			at = next
		}
		yield(0, fmt.Errorf("%w: list at %v does not end", ErrCorrupt, head))
	}
}

func (k *Kernel) tasksOf(head vmi.VirtAddr, off uint32) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		for addr, err := range k.list(head, off) {
			if err != nil {
				yield(Task{}, err)
				return
			}
			if !yield(Task{addr, k}, nil) {
				return
			}
		}
	}
}

// Tasks yields the processes, each by its main thread, without the idle task.
// The walk ends at the first error. While the guest runs, a process that
// starts or ends may be missed, or break the walk.
func (k *Kernel) Tasks() iter.Seq2[Task, error] {
	off := k.task.tasks.Offset
	return k.tasksOf(k.task.init+vmi.VirtAddr(off), off)
}

// Threads yields all threads of all processes, as [Kernel.Tasks] yields
// processes.
func (k *Kernel) Threads() iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		for p, err := range k.Tasks() {
			if err != nil {
				yield(Task{}, err)
				return
			}
			for t, err := range k.ThreadsOf(p) {
				if !yield(t, err) || err != nil {
					return
				}
			}
		}
	}
}

// ThreadsOf yields the threads of t's process.
func (k *Kernel) ThreadsOf(t Task) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		signal, err := k.task.signal.Pointer(k.as, t.Addr)
		if err != nil {
			yield(Task{}, err)
			return
		}
		head := signal + vmi.VirtAddr(k.task.threadHead.Offset)
		for t, err := range k.tasksOf(head, k.task.threadNode.Offset) {
			if !yield(t, err) {
				return
			}
		}
	}
}

// TaskByPID returns the thread with id pid, or [ErrNoTask].
func (k *Kernel) TaskByPID(pid int32) (Task, error) {
	for t, err := range k.Threads() {
		if err != nil {
			return Task{}, err
		}
		if got, err := t.PID(); err != nil {
			return Task{}, err
		} else if got == pid {
			return t, nil
		}
	}
	return Task{}, fmt.Errorf("%w: pid %d", ErrNoTask, pid)
}

// TasksByComm returns the processes whose main thread has the name, or
// [ErrNoTask] if there is none. As in the kernel, 15 bytes of it count.
func (k *Kernel) TasksByComm(name string) ([]Task, error) {
	var found []Task
	for t, err := range k.Tasks() {
		if err != nil {
			return nil, err
		}
		if c, err := t.Comm(); err != nil {
			return nil, err
		} else if c.Is(name) {
			found = append(found, t)
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: name %q", ErrNoTask, name)
	}
	return found, nil
}
