package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/vmi/linux/strace"
	"github.com/govmi/govmi/xen"
)

// The kernel functions that every system call passes.
const (
	entryFunc = "do_syscall_64"
	exitFunc  = "syscall_exit_to_user_mode"
	deathFunc = "do_exit"
	// asmEntry calls entryFunc. In kernels without exitFunc, which inline it,
	// the return from that call is the exit.
	asmEntry = "entry_SYSCALL_64"
)

// prepare makes the tracer for the processes and calls that o names.
func prepare(g *linuxGuest, o options, p printer) (*tracer, error) {
	if err := g.resolve(); err != nil {
		return nil, err
	}
	table, err := g.k.Syscalls()
	if err != nil {
		return nil, err
	}
	t := &tracer{
		m: g, d: strace.NewDecoder(describe(table)), p: p, now: time.Now,
		pid: int32(o.pid), comm: o.comm, what: "all processes",
		threads: make(map[int32]*thread), early: make(map[int32]struct{}),
	}
	for _, name := range o.calls {
		c, err := findCall(table, name)
		if err != nil {
			return nil, err
		}
		if t.calls == nil {
			t.calls = make(map[uint64]bool)
		}
		t.calls[uint64(c.Number)] = true
	}
	threads := g.k.Threads()
	switch {
	case o.pid != 0:
		leader, err := findProcess(g.k, t.pid)
		if err != nil {
			return nil, err
		}
		comm, err := leader.Comm()
		if err != nil {
			return nil, err
		}
		t.what = fmt.Sprintf("process %d (%s)", o.pid, session.Printable(comm.String()))
		threads = g.k.ThreadsOf(leader)
	case o.comm != "":
		t.what = fmt.Sprintf("processes named %s", o.comm)
	}
	for th, err := range threads {
		if err != nil {
			break // the list changes while it is read; a call in flight may be missed
		}
		if tid, err := th.PID(); err == nil && len(t.early) < maxThreads {
			t.early[tid] = struct{}{}
		}
	}
	return t, nil
}

// describe hands the guest's table to the decoder.
func describe(table *linux.SyscallTable) []strace.Syscall {
	var calls []strace.Syscall
	for nr := range table.Len() {
		c, ok := table.Number(nr)
		if !ok {
			continue
		}
		d := strace.Syscall{Nr: uint64(nr), Name: c.Name}
		if c.HasArgs {
			d.Params = []strace.Param{}
			for _, a := range c.Args {
				d.Params = append(d.Params, strace.Param{Name: a.Name, Type: a.Type})
			}
		}
		calls = append(calls, d)
	}
	return calls
}

// findCall returns the call that strace or the kernel calls name.
func findCall(table *linux.SyscallTable, name string) (*linux.Syscall, error) {
	if c, ok := table.Name(name); ok {
		return c, nil
	}
	for nr := range table.Len() {
		if c, ok := table.Number(nr); ok && strace.Name(c.Name) == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("-e %s: the guest's kernel has no such system call", name)
}

// findProcess returns the main thread of a process with user memory.
func findProcess(k *linux.Kernel, pid int32) (linux.Task, error) {
	t, err := k.TaskByPID(pid)
	if errors.Is(err, linux.ErrNoTask) {
		return t, fmt.Errorf("-pid %d: the guest has no such process", pid)
	}
	if err != nil {
		return t, fmt.Errorf("-pid %d: %w", pid, err)
	}
	tgid, err := t.TGID()
	if err != nil {
		return t, fmt.Errorf("-pid %d: %w", pid, err)
	}
	if tgid != pid {
		return t, fmt.Errorf("-pid %d is a thread of process %d: use -pid %d", pid, tgid, tgid)
	}
	if err := runsUserCode(k, t); errors.Is(err, linux.ErrNoMM) {
		return t, fmt.Errorf("-pid %d is a kernel thread or has exited: it makes no system calls", pid)
	}
	return t, nil
}

// processGone reports that there is no process pid, or that it has no memory
// any more. A list that changes under the reader proves nothing.
func processGone(k *linux.Kernel, pid int32) bool {
	t, err := k.TaskByPID(pid)
	if err == nil {
		err = runsUserCode(k, t)
	}
	return errors.Is(err, linux.ErrNoTask) || errors.Is(err, linux.ErrNoMM)
}

// runsUserCode returns [linux.ErrNoMM] if no thread of t's process has user
// memory. The main thread may have exited before the others.
func runsUserCode(k *linux.Kernel, t linux.Task) error {
	for th, err := range k.ThreadsOf(t) {
		if err != nil {
			return err
		}
		if _, err := th.Root(); !errors.Is(err, linux.ErrNoMM) {
			return err
		}
	}
	return linux.ErrNoMM
}

// insert places the tracer's breakpoints and returns how many they are. Events
// must be served already.
func (t *tracer) insert(s *cr3filter.Scope, g *linuxGuest, vcpus int) (n int, err error) {
	put := func(va vmi.VirtAddr, f func(r *xen.Request, k task)) (*cr3filter.Point, error) {
		b, err := s.Insert(va, func(r *xen.Request, h linux.Task) xen.Response {
			t.mu.Lock()
			defer t.mu.Unlock()
			k, err := identify(h)
			if err != nil {
				t.lose(err)
				return xen.Response{}
			}
			f(r, k)
			return xen.Response{}
		})
		if err == nil {
			n++
		}
		return b, err
	}
	syms := g.k.Symbols()

	death, err := syms.Lookup(deathFunc)
	if err != nil {
		return n, err
	}
	if _, err = put(death, func(r *xen.Request, k task) { t.exited(k, uint32(r.Regs.RDI)) }); err != nil {
		return n, fmt.Errorf("%s: %w", deathFunc, err)
	}
	exit, where, err := exitPoint(g)
	if err != nil {
		return n, err
	}
	b, err := put(exit, func(r *xen.Request, k task) { t.leave(r, k, where(&r.Regs)) })
	if err != nil {
		return n, fmt.Errorf("exit of system calls: %w", err)
	}
	if t.calls != nil {
		if vcpus == 1 {
			t.armWhenDue(b)
		}
		err := t.insertCalls(g, put)
		return n, err
	}
	entry, err := syms.Lookup(entryFunc)
	if err != nil {
		return n, err
	}
	param := regsParam(g.k.Types(), entryFunc)
	if _, err = put(entry, func(r *xen.Request, k task) { t.enter(r, k, savedRegs(&r.Regs, param)) }); err != nil {
		return n, fmt.Errorf("%s: %w", entryFunc, err)
	}
	return n, nil
}

// insertCalls places breakpoints on the functions of the chosen calls only.
func (t *tracer) insertCalls(g *linuxGuest, put func(vmi.VirtAddr, func(*xen.Request, task)) (*cr3filter.Point, error)) error {
	table, err := g.k.Syscalls()
	if err != nil {
		return err
	}
	seen := map[vmi.VirtAddr]bool{} // two calls can share a function
	for _, nr := range slices.Sorted(maps.Keys(t.calls)) {
		c, _ := table.Number(int(nr))
		if seen[c.Entry] {
			continue
		}
		seen[c.Entry] = true
		if _, err := put(c.Entry, func(r *xen.Request, k task) { t.enter(r, k, r.Regs.RDI) }); err != nil {
			return fmt.Errorf("%s: %w", c.EntrySymbol, err)
		}
	}
	return nil
}

// armWhenDue keeps the exit that all calls share armed only while one of the
// chosen calls is in flight. It is for a guest with one vCPU: that stands
// still while its event is handled, whereas another could be executing the
// instruction that changes.
func (t *tracer) armWhenDue(exit armer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exit = exit
	t.arm()
}

// exitPoint returns where all system calls leave the kernel, and how to find
// the saved registers there.
func exitPoint(g *linuxGuest) (vmi.VirtAddr, func(*xen.Registers) uint64, error) {
	syms := g.k.Symbols()
	exit, err := syms.Lookup(exitFunc)
	if err == nil {
		param := max(regsParam(g.k.Types(), exitFunc), 0)
		return exit, func(r *xen.Registers) uint64 { return savedRegs(r, param) }, nil
	}
	if !errors.Is(err, linux.ErrNoSymbol) {
		return 0, nil, err
	}
	from, err := syms.Lookup(asmEntry)
	if err != nil {
		return 0, nil, err
	}
	callee, err := syms.Lookup(entryFunc)
	if err != nil {
		return 0, nil, err
	}
	code := make([]byte, 1024)
	if _, err := g.space.Read(from, code); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", asmEntry, err)
	}
	n := afterCall(code, uint64(from), uint64(callee))
	if n < 0 {
		return 0, nil, fmt.Errorf("the guest's kernel has neither %s nor a call of %s in %s", exitFunc, entryFunc, asmEntry)
	}
	// The saved registers are what lies on the stack around the call.
	return from + vmi.VirtAddr(n), func(r *xen.Registers) uint64 { return r.RSP }, nil
}

// afterCall returns the offset in code, which lies at base, of the instruction
// after the near call of callee, -1 if there is none.
func afterCall(code []byte, base, callee uint64) int {
	for i := 0; i+5 <= len(code); i++ {
		if code[i] != 0xe8 {
			continue
		}
		rel := int32(binary.LittleEndian.Uint32(code[i+1:]))
		if base+uint64(i)+5+uint64(int64(rel)) == callee {
			return i + 5
		}
	}
	return -1
}

// savedRegs returns the parameter that points to the saved registers. Where
// the types do not tell which one it is, it is the one that is an address.
func savedRegs(r *xen.Registers, param int) uint64 {
	switch {
	case param == 0, param < 0 && r.RDI>>63 != 0:
		return r.RDI
	}
	return r.RSI
}
