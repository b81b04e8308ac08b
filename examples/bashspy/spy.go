package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// The functions of the terminals' line discipline that all reads and writes pass,
// by whatever system call: each is passed the terminal, the file, a buffer and its
// length, and returns how much of it was read or written. The buffer is the
// kernel's own but for reads before Linux 5.12.
const (
	readFunc  = "n_tty_read"
	writeFunc = "n_tty_write"
	// callFunc is that of read(2), by whose end a read that a shell was in when it
	// began to be watched is in its buffer.
	callFunc = "ksys_read"
)

// maxChunk bounds what one call passes on: the kernel writes 64 KiB at a time.
const maxChunk = 64 << 10

func appendInt(b []byte, n int32) []byte { return strconv.AppendInt(b, int64(n), 10) }

// spy follows the calls of a session's threads.
type spy struct {
	kernel *linux.Kernel
	tty    vmi.VirtAddr // the session's terminal
	now    func() time.Time
	text   *transcript
	calls  kfunc.Calls[transfer]
	// early are the threads in a read that began before.
	early  map[vmi.VirtAddr]bool
	before savedCalls
	lost   int
	why    error
}

// transfer is a call in flight.
type transfer struct {
	tty, buf vmi.VirtAddr
	length   uint64
}

func (s *spy) lose(err error) {
	s.lost++
	s.why = err
}

// hit handles the entry and the end of a read or a write.
func (s *spy) hit(typed bool, r *xen.Request, t linux.Task, exit *breakpoint.Exit) {
	fn := 0
	if typed {
		fn = 1
	}
	if exit == nil {
		call := transfer{vmi.VirtAddr(r.Regs.RDI), vmi.VirtAddr(r.Regs.RDX), r.Regs.RCX}
		s.calls.Enter(t.Addr, kfunc.Call[transfer]{Func: fn, SP: r.Regs.RSP, Value: call})
		return
	}
	c, _, _, ok := s.calls.Leave(t.Addr, fn, r.Regs.RSP)
	n := int64(r.Regs.RAX)
	switch {
	case !ok && typed && n > 0 && len(s.early) < maxEarly:
		s.early[t.Addr] = true
	case ok && c.Value.tty == s.tty:
		s.pass(typed, r, t, c.Value.buf, n, c.Value.length)
	}
}

// maxEarly bounds the threads that are in a read at the beginning.
const maxEarly = 1 << 12

// returned handles the end of read(2).
func (s *spy) returned(r *xen.Request, t linux.Task) {
	if len(s.early) == 0 || !s.early[t.Addr] {
		return
	}
	delete(s.early, t.Addr)
	buf, length, err := s.before.read(t)
	if err != nil {
		s.lose(err)
		return
	}
	s.pass(true, r, t, buf, int64(r.Regs.RAX), length)
}

// pass takes over what a call has passed on.
func (s *spy) pass(typed bool, r *xen.Request, t linux.Task, buf vmi.VirtAddr, n int64, length uint64) {
	if n <= 0 {
		return
	}
	if uint64(n) > length || n > maxChunk {
		s.lose(fmt.Errorf("%w: %d bytes of %d", linux.ErrCorrupt, n, length))
		return
	}
	data := make([]byte, n)
	// In the kernel CR3 is the root that maps kernel and user memory.
	if _, err := s.kernel.AddressSpace().WithRoot(vmi.CR3(r.Regs.CR3)).Read(buf, data); err != nil {
		s.lose(err)
		return
	}
	pid, err := t.TGID()
	comm, err2 := t.Comm()
	if err := errors.Join(err, err2); err != nil {
		s.lose(err)
		return
	}
	s.text.add(chunk{at: s.now(), pid: pid, comm: session.Printable(comm.String()), typed: typed, data: data})
}

// insert places the breakpoints on one of the functions.
func (s *spy) insert(to kfunc.Inserter, f kfunc.Function) error {
	if f.Name != callFunc {
		_, err := f.Insert(to, func(r *xen.Request, t linux.Task, exit *breakpoint.Exit) { s.hit(f.Name == readFunc, r, t, exit) })
		return err
	}
	for _, e := range f.Exits {
		_, err := to.Insert(e.Addr, func(r *xen.Request, t linux.Task) xen.Response {
			s.returned(r, t)
			return xen.Response{}
		})
		if err != nil {
			return fmt.Errorf("%s: its end: %w", f.Name, err)
		}
	}
	return nil
}

// savedCalls reads the arguments of the system call that a thread is in.
type savedCalls struct {
	k                           *linux.Kernel
	stack, nr, buf, length, end linux.Field
}

func newSavedCalls(k *linux.Kernel) (c savedCalls, err error) {
	c.k = k
	for path, to := range map[string]*linux.Field{
		"task_struct.stack": &c.stack, "pt_regs.orig_ax": &c.nr, "pt_regs.si": &c.buf, "pt_regs.dx": &c.length, "pt_regs.ss": &c.end,
	} {
		if *to, err = k.Field(path); err != nil {
			return c, err
		}
	}
	return c, nil
}

var errNoRead = errors.New("a read that began before was not by read(2)")

// read returns the buffer and the length of a read(2). The kernel saves the
// registers at the top of the thread's stack.
func (c savedCalls) read(t linux.Task) (buf vmi.VirtAddr, length uint64, err error) {
	const threadSize = 16 << 10
	space := c.k.AddressSpace()
	stack, err := c.stack.Pointer(space, t.Addr)
	if err != nil {
		return 0, 0, err
	}
	regs := stack + threadSize - vmi.VirtAddr(c.end.Offset+8)
	nr, err := c.nr.Uint(space, regs)
	if err == nil && nr != 0 {
		err = errNoRead
	}
	if err != nil {
		return 0, 0, err
	}
	if buf, err = c.buf.Pointer(space, regs); err != nil {
		return 0, 0, err
	}
	length, err = c.length.Uint(space, regs)
	return buf, length, err
}

// terminals reads which terminals processes have.
type terminals struct {
	k                         *linux.Kernel
	signal, controlling, name linux.Field
}

func newTerminals(k *linux.Kernel) (t terminals, err error) {
	t.k = k
	for path, to := range map[string]*linux.Field{
		"task_struct.signal": &t.signal, "signal_struct.tty": &t.controlling, "tty_struct.name": &t.name,
	} {
		if *to, err = k.Field(path); err != nil {
			return t, err
		}
	}
	return t, nil
}

var errNoTerminal = errors.New("it has no terminal")

// of returns a process's controlling terminal and its name.
func (t terminals) of(task linux.Task) (vmi.VirtAddr, string, error) {
	space := t.k.AddressSpace()
	sig, err := t.signal.Pointer(space, task.Addr)
	if err != nil {
		return 0, "", err
	}
	tty, err := t.controlling.Pointer(space, sig)
	if err != nil {
		return 0, "", err
	}
	if tty == 0 {
		return 0, "", errNoTerminal
	}
	const maxName = 64
	name, err := space.CString(tty+vmi.VirtAddr(t.name.Offset), maxName)
	return tty, session.Printable(name), err
}

// shell is a process with a terminal.
type shell struct {
	pid     int32
	tty     vmi.VirtAddr
	ttyName string
}

// find returns the shell that the options name.
func find(k *linux.Kernel, o options) (shell, error) {
	terms, err := newTerminals(k)
	if err != nil {
		return shell{}, err
	}
	if o.pid != 0 {
		task, err := k.TaskByPID(int32(o.pid))
		if errors.Is(err, linux.ErrNoTask) {
			return shell{}, fmt.Errorf("-pid %d: the guest has no such process", o.pid)
		}
		if err != nil {
			return shell{}, err
		}
		tty, name, err := terms.of(task)
		if err != nil {
			return shell{}, fmt.Errorf("-pid %d: %w", o.pid, err)
		}
		return shell{int32(o.pid), tty, name}, nil
	}
	tasks, err := k.TasksByComm(o.comm)
	if errors.Is(err, linux.ErrNoTask) {
		return shell{}, fmt.Errorf("-comm %s: the guest has no such process", o.comm)
	}
	if err != nil {
		return shell{}, err
	}
	var found []shell
	pids := ""
	for _, task := range tasks {
		tty, name, err := terms.of(task)
		if errors.Is(err, errNoTerminal) {
			continue
		}
		pid, perr := task.TGID()
		if err := errors.Join(err, perr); err != nil {
			return shell{}, err
		}
		found = append(found, shell{pid, tty, name})
		pids += fmt.Sprintf(" %d", pid)
	}
	switch len(found) {
	case 0:
		return shell{}, fmt.Errorf("-comm %s: no process of this name has a terminal", o.comm)
	case 1:
		return found[0], nil
	}
	return shell{}, fmt.Errorf("-comm %s: several have a terminal, use -pid with one of%s", o.comm, pids)
}
