package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/vmi/linux/strace"
	"github.com/govmi/govmi/xen"
)

// machine is what the tracer asks about the guest while it waits.
type machine interface {
	comm(t task) (linux.Comm, error)
	// callRegs reads the registers that the kernel has saved at addr.
	callRegs(addr uint64) (callRegs, error)
	// user is the memory that the vCPU's user code sees. It is valid until the
	// next call of user.
	user(r *xen.Registers) strace.Reader
	// last reports whether no other thread of t's process is alive.
	last(t task) bool
}

// task is a thread of the guest.
type task struct {
	pid, tid int32 // thread group and thread
	handle   linux.Task
}

// callRegs is what the tracer needs of the kernel's struct pt_regs.
type callRegs struct {
	nr   uint64 // orig_ax
	ret  int64  // ax
	args [6]uint64
	sp   uint64
}

// linuxGuest is a machine with a Linux kernel.
type linuxGuest struct {
	k      *linux.Kernel
	space  vmi.AddressSpace
	fields [9]linux.Field // of pt_regs, in callRegs' order
	size   int

	mem  userMemory
	regs []byte
}

func newGuest(k *linux.Kernel) *linuxGuest { return &linuxGuest{k: k, space: k.AddressSpace()} }

// resolve finds the structure members that the tracer reads.
func (g *linuxGuest) resolve() (err error) {
	for i, name := range [...]string{"orig_ax", "ax", "di", "si", "dx", "r10", "r8", "r9", "sp"} {
		if g.fields[i], err = g.k.Field("pt_regs." + name); err != nil {
			return err
		}
		if g.fields[i].Size != 8 || g.fields[i].Offset > 1024 {
			return fmt.Errorf("%w: pt_regs.%s", linux.ErrCorrupt, name)
		}
		g.size = max(g.size, int(g.fields[i].Offset)+8)
	}
	g.regs = make([]byte, g.size)
	return nil
}

// identify reads the ids of a thread.
func identify(h linux.Task) (t task, err error) {
	t.handle = h
	if t.pid, err = h.TGID(); err != nil {
		return t, err
	}
	t.tid, err = h.PID()
	return t, err
}

func (g *linuxGuest) comm(t task) (linux.Comm, error) { return t.handle.Comm() }

func (g *linuxGuest) callRegs(addr uint64) (c callRegs, err error) {
	if _, err := g.space.Read(vmi.VirtAddr(addr), g.regs); err != nil {
		return c, err
	}
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(g.regs[g.fields[i].Offset:]) }
	c.nr, c.ret, c.sp = at(0), int64(at(1)), at(8)
	for i := range c.args {
		c.args[i] = at(2 + i)
	}
	return c, nil
}

func (g *linuxGuest) last(t task) bool {
	n, err := t.handle.Alive()
	return err == nil && n <= 1
}

func (g *linuxGuest) user(r *xen.Registers) strace.Reader {
	// In the kernel CR3 is the root that maps kernel and user memory.
	g.mem.space = g.space.WithRoot(vmi.CR3(r.CR3))
	return &g.mem
}

// userMemory is the lower half of an address space: what lies above is the
// kernel's, and no process could read it by passing its address to a call.
type userMemory struct{ space vmi.AddressSpace }

// userEnd is the end of user memory with five levels of page tables; with four
// the page tables map nothing between it and 1<<47.
const userEnd = 1 << 56

var errNotUser = errors.New("not a user address")

func (m *userMemory) Read(addr uint64, p []byte) (int, error) {
	if addr >= userEnd || uint64(len(p)) > userEnd-addr {
		return 0, errNotUser
	}
	return m.space.Read(vmi.VirtAddr(addr), p)
}

// regsParam returns which parameter of a kernel function, counted from 0, is
// the pointer to the saved registers; -1 if the guest's types do not tell.
func regsParam(types *btf.Spec, function string) (n int) {
	defer func() {
		if recover() != nil {
			n = -1 // types are the guest's, and hostile
		}
	}()
	var f *btf.Func
	if types.TypeByName(function, &f) != nil {
		return -1
	}
	proto, ok := f.Type.(*btf.FuncProto)
	if !ok {
		return -1
	}
	for i, p := range proto.Params {
		ptr, ok := btf.UnderlyingType(p.Type).(*btf.Pointer)
		if !ok {
			continue
		}
		if s, ok := btf.UnderlyingType(ptr.Target).(*btf.Struct); ok && s.Name == "pt_regs" {
			return i
		}
	}
	return -1
}
