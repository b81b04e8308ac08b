package linux

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

// FindingKind says what a [Finding] is about.
type FindingKind string

// What [Kernel.Check], [Kernel.CheckCode] and [Kernel.CompareCode] look at.
const (
	// ForeignSyscall: an entry of the table of system calls leads out of the
	// kernel's own code.
	ForeignSyscall FindingKind = "system call"
	// ForeignInterrupt: an entry of the table of interrupts does.
	ForeignInterrupt FindingKind = "interrupt"
	// HiddenTask: a thread that its pid leads to is in no list of processes.
	HiddenTask FindingKind = "hidden task"
	// HiddenModule: a module whose code the kernel knows is not in the list.
	HiddenModule FindingKind = "hidden module"
	// ChangedCode: code is not what the kernel would have there.
	ChangedCode FindingKind = "changed code"
	// ForeignTracer: ftrace calls a function out of all code.
	ForeignTracer FindingKind = "tracer"
	// UnknownModule: a module that the earlier state lacks.
	UnknownModule FindingKind = "unknown module"
)

// Finding is something that a sound kernel does not have.
type Finding struct {
	Kind FindingKind
	// Number is that of the system call, the interrupt or the thread.
	Number int
	// Name is that of the system call, the thread, the module or the place in code.
	Name string
	// Addr is where the table leads, the structure or the code; Where names it, or
	// says what is there.
	Addr  vmi.VirtAddr
	Where string `json:",omitempty"`
}

// Check yields what the kernel's structures contradict each other in. The guest
// is to be paused: of a running one a process that starts or ends looks like a
// hidden one. Of the kernel's code see [Kernel.CheckCode].
func (k *Kernel) Check() iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		code, err := k.code()
		if err != nil {
			yield(Finding{}, err)
			return
		}
		c := &checker{k: k, r: &reader{s: k.as}, code: code, yield: yield}
		for _, check := range []func() error{c.syscalls, c.interrupts, c.tasks, c.modules} {
			if err := check(); err != nil {
				yield(Finding{}, err)
				return
			}
			if c.done {
				return
			}
		}
	}
}

type checker struct {
	k     *Kernel
	r     *reader
	code  Range
	yield func(Finding, error) bool
	done  bool
}

func (c *checker) found(f Finding) {
	if !c.done {
		c.done = !c.yield(f, nil)
	}
}

// where names an address outside the kernel's code.
func (c *checker) where(va vmi.VirtAddr) (string, error) {
	for m, err := range c.k.Modules() {
		if err != nil {
			return "", err
		}
		for _, r := range m.Ranges {
			if r.Contains(va) {
				return "module " + m.Name, nil
			}
		}
	}
	if sym, off, ok := c.k.syms.At(va); ok {
		return fmt.Sprintf("%s+%#x", sym.Name, off), nil
	}
	return "", nil
}

func (c *checker) syscalls() error {
	entries, err := c.k.syscallEntries()
	if err != nil {
		return err
	}
	known, err := c.k.Syscalls()
	if err != nil {
		return err
	}
	for i, to := range entries {
		name := ""
		if call, ok := known.Number(i); ok {
			name = call.Name
		}
		if err := c.entry(Finding{Kind: ForeignSyscall, Number: i, Name: name, Addr: to}); err != nil {
			return err
		}
	}
	return nil
}

// entry reports an entry of a table that leads out of the kernel's code.
func (c *checker) entry(f Finding) (err error) {
	if c.code.Contains(f.Addr) {
		return nil
	}
	if f.Where, err = c.where(f.Addr); err == nil {
		c.found(f)
	}
	return err
}

func (c *checker) interrupts() error {
	table, err := c.k.syms.Lookup("idt_table")
	if err != nil {
		return err
	}
	// Exceptions that no processor raises keep the handlers of the kernel's
	// start; of 32 each has 13 bytes at most.
	early, err := c.k.syms.Lookup("early_idt_handler_array")
	if err != nil {
		return err
	}
	const earlyHandlers = 32 * 13
	// The layout is the processor's (Intel SDM volume 3, 6.14.1).
	const entries, size, present = 256, 16, 1 << 7
	b := make([]byte, entries*size)
	if _, err := c.k.as.Read(table, b); err != nil {
		return fmt.Errorf("idt_table: %w", err)
	}
	for i := range entries {
		e := b[i*size:]
		if e[5]&present == 0 {
			continue
		}
		to := vmi.VirtAddr(binary.LittleEndian.Uint16(e)) | vmi.VirtAddr(binary.LittleEndian.Uint16(e[6:]))<<16 |
			vmi.VirtAddr(binary.LittleEndian.Uint32(e[8:]))<<32
		if to >= early && to < early+earlyHandlers {
			continue
		}
		if err := c.entry(Finding{Kind: ForeignInterrupt, Number: i, Addr: to}); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) tasks() error {
	for t, err := range c.k.HiddenTasks() {
		if err != nil {
			return err
		}
		pid, err := t.PID()
		if err != nil {
			return err
		}
		comm, err := t.Comm()
		if err != nil {
			return err
		}
		c.found(Finding{Kind: HiddenTask, Number: int(pid), Name: comm.String(), Addr: t.Addr})
	}
	return nil
}

// HiddenTasks yields the threads that are in no list of processes, though the
// kernel's index of pids leads to them. A process that starts or ends meanwhile
// may be among them.
func (k *Kernel) HiddenTasks() iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		listed := make(map[vmi.VirtAddr]bool)
		for t, err := range k.Threads() {
			if err != nil {
				yield(Task{}, err)
				return
			}
			listed[t.Addr] = true
		}
		for t, err := range k.tasksByPID() {
			if listed[t.Addr] && err == nil {
				continue
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// modules compares the kernel's index of modules' addresses with its list.
func (c *checker) modules() error {
	listed := make(map[vmi.VirtAddr]bool)
	for m, err := range c.k.Modules() {
		if err != nil {
			return err
		}
		listed[m.Addr] = true
	}
	f, err := c.k.fields.module.of(c.k)
	if err != nil {
		return err
	}
	for addr, err := range c.k.modulesByAddress() {
		if err != nil {
			return err
		}
		if listed[addr] {
			continue
		}
		listed[addr] = true // each has several ranges
		if state := c.r.uint(f.State, addr); c.r.err == nil && state > 2 {
			continue // not set up yet
		}
		name := c.r.name(f.Name, addr)
		if c.r.err != nil {
			return c.r.err
		}
		c.found(Finding{Kind: HiddenModule, Name: name, Addr: addr})
	}
	return nil
}
