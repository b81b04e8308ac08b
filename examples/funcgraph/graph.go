package main

import (
	"sync"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/examples/internal/chrometrace"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// thread is who calls.
type thread = chrometrace.Thread

// call is one call, as far as it is known.
type call struct {
	Function string
	Depth    int // calls that it is within, of those that are traced
	Thread   thread
	Begin    time.Time
	// End is zero for a call whose end was not seen.
	End time.Time
	// RAX is what the function returned, if it returns anything.
	RAX uint64
	// Tail is the function that it jumped to at its end, "" if it returned.
	Tail string
	// Note tells why a call has no end.
	Note string
}

// output shows calls. Its methods are not called at the same time, but for Flush.
type output interface {
	enter(c call)
	leave(c call)
	// finish ends the output, when no call comes any more.
	finish()
	Flush() error
}

// graph follows the calls of a process's threads. Its handlers run with mu held.
type graph struct {
	mu    sync.Mutex
	now   func() time.Time
	names []string // of the functions
	// symbol names an address that a function jumps to.
	symbol func(va vmi.VirtAddr) string
	out    output

	calls   kfunc.Calls[call]
	threads map[int32]named
	ended   int // calls whose end was seen
	lost    int // events of a thread that could not be read
	why     error
}

// hit handles the entry of function fn, or its end by exit.
func (g *graph) hit(fn int, r *xen.Request, t linux.Task, exit *breakpoint.Exit) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	th, err := g.identify(t)
	if err != nil {
		g.lost++
		g.why = err
		return
	}
	if exit == nil {
		g.enter(fn, t.Addr, th, r.Regs.RSP, now)
		return
	}
	tail := ""
	if exit.Tail {
		if tail = "a function by its address"; exit.Target != 0 {
			tail = g.symbol(exit.Target)
		}
	}
	g.leave(fn, t.Addr, r.Regs.RSP, r.Regs.RAX, tail, now)
}

func (g *graph) enter(fn int, task vmi.VirtAddr, th thread, sp uint64, now time.Time) {
	c := call{Function: g.names[fn], Thread: th, Begin: now}
	depth, missed, ok := g.calls.Enter(task, kfunc.Call[call]{Func: fn, SP: sp, Value: c})
	g.unseen(missed, depth, "its end was not seen", now)
	if ok {
		c.Depth = depth
		g.out.enter(c)
	}
}

func (g *graph) leave(fn int, task vmi.VirtAddr, sp, rax uint64, tail string, now time.Time) {
	k, depth, missed, ok := g.calls.Leave(task, fn, sp)
	if !ok {
		return
	}
	g.unseen(missed, depth+1, "its end was not seen", now)
	c := k.Value
	c.Depth, c.End, c.RAX, c.Tail = depth, now, rax, tail
	g.ended++
	g.out.leave(c)
}

// unseen shows calls whose end was not seen, the innermost first; the outermost
// is depth deep.
func (g *graph) unseen(missed []kfunc.Call[call], depth int, why string, now time.Time) {
	for i := range missed {
		c := missed[i].Value
		c.Depth, c.Note = depth+len(missed)-1-i, why
		g.out.leave(c)
	}
}

// finish shows what had not ended when tracing did.
func (g *graph) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for depth, k := range g.calls.Open() {
		c := k.Value
		c.Depth, c.Note = depth, "tracing ended in it"
		g.out.leave(c)
	}
	g.out.finish()
}

// maxNames bounds the threads whose names are remembered.
const maxNames = 1 << 12

// identify tells who a thread is.
func (g *graph) identify(t linux.Task) (th thread, err error) {
	pid, err := t.TGID()
	if err != nil {
		return th, err
	}
	tid, err := t.PID()
	if err != nil {
		return th, err
	}
	comm, err := t.Comm()
	if err != nil {
		return th, err
	}
	n, ok := g.threads[tid]
	if !ok || n.comm != comm {
		if g.threads == nil || len(g.threads) >= maxNames {
			g.threads = map[int32]named{}
		}
		n = named{comm, session.Printable(comm.String())}
		g.threads[tid] = n
	}
	return thread{PID: int(pid), TID: int(tid), Comm: n.printable}, nil
}

type named struct {
	comm      linux.Comm
	printable string
}
