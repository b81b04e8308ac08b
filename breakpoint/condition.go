package breakpoint

import (
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Condition says whether a hit is one that is asked for. It is called for every
// execution of the instruction, on the event path: it must not allocate, nor keep
// r. Those of this package do neither.
type Condition func(r *xen.Request) bool

// InRoot is true while the vCPU has the page tables at root loaded, with any PCID,
// and in Linux with those of user mode as well, next to it. In user mode that is the
// process; a kernel thread borrows the tables of the process before it.
func InRoot(root vmi.CR3) Condition {
	const pcidAndHalf = 0x1fff
	want := uint64(root) &^ pcidAndHalf &^ (1 << 63)
	return func(r *xen.Request) bool { return r.Regs.CR3&^pcidAndHalf&^(1<<63) == want }
}

// InProcess is true for the threads of a process, by the thread that the kernel
// runs. What cannot be told is false: that may be in user mode on AMD, see
// [linux.Kernel.CurrentTaskOn]. Take [InRoot] there.
func InProcess(k *linux.Kernel, pid int32) Condition {
	return func(r *xen.Request) bool {
		t, err := k.CurrentTaskOn(r.VCPU, &r.Regs)
		if err != nil {
			return false
		}
		got, err := t.TGID()
		return err == nil && got == pid
	}
}

// InThread is true for one thread. What cannot be told is false, as for
// [InProcess].
func InThread(k *linux.Kernel, tid int32) Condition {
	return func(r *xen.Request) bool {
		t, err := k.CurrentTaskOn(r.VCPU, &r.Regs)
		if err != nil {
			return false
		}
		got, err := t.PID()
		return err == nil && got == tid
	}
}

// Argument is a function's n-th integer argument, counting from 0, in the
// registers that the System V ABI has for the first six. It is to be asked where
// the function begins.
func Argument(r *xen.Registers, n int) (uint64, bool) {
	switch n {
	case 0:
		return r.RDI, true
	case 1:
		return r.RSI, true
	case 2:
		return r.RDX, true
	case 3:
		return r.RCX, true
	case 4:
		return r.R8, true
	case 5:
		return r.R9, true
	}
	return 0, false
}

// ArgumentIs is true where a function's n-th argument has the value, see
// [Argument].
func ArgumentIs(n int, value uint64) Condition {
	return func(r *xen.Request) bool {
		got, ok := Argument(&r.Regs, n)
		return ok && got == value
	}
}

// All is true if all of the conditions are, which are asked in turn.
func All(conditions ...Condition) Condition {
	return func(r *xen.Request) bool {
		for _, c := range conditions {
			if !c(r) {
				return false
			}
		}
		return true
	}
}
