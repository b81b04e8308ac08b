package main

import (
	"errors"
	"sync"
	"time"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/vmi/linux/strace"
	"github.com/govmi/govmi/xen"
)

// maxThreads bounds the threads that are followed at a time.
const maxThreads = 1 << 15

// tracer follows the calls of the chosen threads. Its handlers run with mu
// held.
type tracer struct {
	mu sync.Mutex

	m   machine
	d   *strace.Decoder
	p   printer
	now func() time.Time

	// Whom and what to trace.
	pid   int32  // of a process; 0: all
	comm  string // "": all
	calls map[uint64]bool
	what  string // in words

	threads map[int32]*thread
	// early are the threads of which nothing has been seen since tracing
	// began: the first exit of one ends a call that began before.
	early map[int32]struct{}
	open  int // calls in flight

	// exit is the breakpoint at the calls' exit, armed only while it is
	// wanted; nil keeps it armed.
	exit  armer
	ended func() // called when the traced process is over
	lost  int    // events that could not be made into a line
	why   error  // of the last one
}

var (
	errThreads = errors.New("too many threads at a time")
	errUnseen  = errors.New("the exit of a call was not seen")
)

func (t *tracer) lose(err error) {
	t.lost++
	t.why = err
}

// armer is a breakpoint.
type armer interface {
	Arm() error
	Disarm()
}

// thread is a traced thread.
type thread struct {
	name strace.Thread
	comm linux.Comm
	call strace.Call
	open bool // call has been entered and has not returned
}

// wanted reports whether t is to be traced.
func (t *tracer) wanted(k task) bool {
	switch {
	case t.pid != 0:
		return k.pid == t.pid
	case t.comm != "":
		c, err := t.m.comm(k)
		return err == nil && c.Is(t.comm)
	}
	return true
}

// thread returns what is known of k, with the name that it has now.
func (t *tracer) thread(k task) *thread {
	th := t.threads[k.tid]
	if th == nil {
		if len(t.threads) >= maxThreads {
			t.lose(errThreads)
			return nil
		}
		th = new(thread)
		t.threads[k.tid] = th
	}
	th.name.PID, th.name.TID = int(k.pid), int(k.tid)
	if c, err := t.m.comm(k); err == nil && (c != th.comm || th.name.Comm == "") {
		th.comm, th.name.Comm = c, session.Printable(c.String())
	}
	return th
}

// enter handles the entry of a call whose registers are saved at addr.
func (t *tracer) enter(r *xen.Request, k task, addr uint64) {
	if !t.wanted(k) {
		return
	}
	regs, err := t.m.callRegs(addr)
	if err != nil {
		t.lose(err)
		return
	}
	th := t.thread(k)
	if th == nil {
		return
	}
	t.seen(k)
	if th.open {
		t.lose(errUnseen)
		t.close(th)
	}
	t.d.Entry(&th.call, strace.Registers{Nr: regs.nr, Args: regs.args, SP: regs.sp}, t.m.user(&r.Regs))
	t.p.Enter(th.name, &th.call, t.now())
	if !th.call.NeverReturns() {
		th.open = true
		t.open++
	}
	t.arm()
}

// leave handles the common exit of all calls.
func (t *tracer) leave(r *xen.Request, k task, addr uint64) {
	th := t.threads[k.tid]
	if th == nil || !th.open {
		t.leaveUnseen(r, addr, k)
		return
	}
	regs, err := t.m.callRegs(addr)
	if err != nil {
		t.lose(err)
		return
	}
	t.complete(th, &r.Regs, regs)
}

func (t *tracer) complete(th *thread, r *xen.Registers, regs callRegs) {
	t.d.Exit(&th.call, regs.ret, t.m.user(r))
	t.p.Leave(th.name, &th.call, t.now())
	t.close(th)
	t.arm()
}

// leaveUnseen handles an exit without an entry: that of a call which was in
// flight when tracing began, or of an execve by which a thread took the place
// of its process's main thread. A new thread has one as well, which is no call
// of its own.
func (t *tracer) leaveUnseen(r *xen.Request, addr uint64, k task) {
	if t.pid != 0 && k.pid != t.pid {
		return
	}
	_, early := t.early[k.tid]
	if !early && (k.pid != k.tid || t.open == 0) {
		return
	}
	regs, err := t.m.callRegs(addr)
	if err != nil {
		t.lose(err)
		return
	}
	if !early {
		if th := t.executing(k, regs); th != nil {
			delete(t.threads, int32(th.name.TID))
			t.threads[k.tid] = th
			t.complete(th, &r.Regs, regs)
		}
		return
	}
	t.seen(k)
	defer t.arm()
	if t.calls != nil && !t.calls[regs.nr] || isFork(regs.nr) && regs.ret == 0 || !t.wanted(k) {
		return
	}
	th := t.thread(k)
	if th == nil {
		return
	}
	if isExec(regs.nr) && regs.ret == 0 {
		t.d.Attach(&th.call, regs.nr) // its arguments are gone
	} else {
		t.d.Entry(&th.call, strace.Registers{Nr: regs.nr, Args: regs.args, SP: regs.sp}, t.m.user(&r.Regs))
		t.p.Enter(th.name, &th.call, t.now())
	}
	t.d.Exit(&th.call, regs.ret, t.m.user(&r.Regs))
	t.p.Leave(th.name, &th.call, t.now())
}

// executing returns the thread of k's process that is in an execve, if
// registers say that one has succeeded.
func (t *tracer) executing(k task, regs callRegs) *thread {
	if !isExec(regs.nr) || regs.ret != 0 {
		return nil
	}
	for _, th := range t.threads {
		if th.open && th.name.PID == int(k.pid) && isExec(th.call.Nr) {
			return th
		}
	}
	return nil
}

func isExec(nr uint64) bool { return nr == 59 || nr == 322 }

// isFork reports a call that returns in a new thread as well, with 0: clone,
// fork, vfork, clone3.
func isFork(nr uint64) bool { return nr >= 56 && nr <= 58 || nr == 435 }

// exited handles the end of a thread, with the status that a parent will see.
func (t *tracer) exited(k task, status uint32) {
	if t.pid != 0 && k.pid != t.pid {
		return
	}
	th := t.threads[k.tid]
	if th == nil && t.pid != 0 {
		th = t.thread(k)
	}
	if th != nil {
		if th.open {
			t.p.Killed(th.name, &th.call)
			t.close(th)
		}
		t.p.Exited(th.name, status)
		delete(t.threads, k.tid)
	}
	t.seen(k)
	t.arm()
	if t.pid != 0 && t.m.last(k) && t.ended != nil {
		t.ended()
	}
}

func (t *tracer) close(th *thread) {
	th.open = false
	t.open--
}

func (t *tracer) seen(k task) {
	if len(t.early) > 0 {
		delete(t.early, k.tid)
	}
}

// arm has the exit breakpoint in place while an exit is waited for.
func (t *tracer) arm() {
	if t.exit == nil {
		return
	}
	if t.open == 0 && len(t.early) == 0 {
		t.exit.Disarm()
		return
	}
	if err := t.exit.Arm(); err != nil {
		t.lose(err)
	}
}
