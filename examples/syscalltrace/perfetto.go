package main

import (
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/examples/internal/chrometrace"
	"github.com/govmi/govmi/vmi/linux/strace"
)

// printer is where calls go: a [strace.Printer] or a perfetto.
type printer interface {
	Enter(t strace.Thread, c *strace.Call, at time.Time)
	Leave(t strace.Thread, c *strace.Call, at time.Time)
	Killed(t strace.Thread, c *strace.Call)
	Exited(t strace.Thread, status uint32)
	// Detach shows what had not returned when tracing ended.
	Detach()
	Flush() error
	Counts() strace.Counts
}

// perfetto shows calls in Chrome's trace event format.
type perfetto struct {
	trace  *chrometrace.Trace
	now    func() time.Time
	begin  time.Time
	open   map[int]begun // calls in flight, by thread
	counts strace.Counts
}

type begun struct {
	thread strace.Thread
	call   *strace.Call
	at     time.Time
}

func newPerfetto(w io.Writer, now func() time.Time) *perfetto {
	begin := now()
	return &perfetto{trace: chrometrace.New(w, begin), now: now, begin: begin, open: map[int]begun{}}
}

// callArgs is what is shown of a call besides its name and times.
type callArgs struct {
	Arguments []string `json:"arguments"`
	// Result is what strace shows behind the equals sign.
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
	// Note tells why a call has no end, or no beginning.
	Note string `json:"note,omitempty"`
}

func argsOf(c *strace.Call, note string) callArgs {
	const sign = "= "
	return callArgs{Arguments: c.Arguments(), Result: string(c.AppendResult(nil)[len(sign):]), Error: c.ErrorName(), Note: note}
}

func (p *perfetto) Enter(t strace.Thread, c *strace.Call, at time.Time) {
	if c.NeverReturns() {
		p.counts.Lines++
		p.trace.Instant(chrometrace.Thread(t), "syscall", c.Name(), at, argsOf(c, ""))
		return
	}
	p.open[t.TID] = begun{t, c, at}
}

func (p *perfetto) Leave(t strace.Thread, c *strace.Call, at time.Time) {
	p.counts.Calls++
	b, ok := p.open[t.TID]
	note := ""
	if !ok || !c.Entered {
		b.at, note = p.begin, "it was in flight when tracing began"
	}
	delete(p.open, t.TID)
	p.complete(t, c, b.at, at, note)
}

func (p *perfetto) complete(t strace.Thread, c *strace.Call, from, to time.Time, note string) {
	p.counts.Lines++
	p.trace.Complete(chrometrace.Thread(t), "syscall", c.Name(), from, to, argsOf(c, note))
}

func (p *perfetto) Killed(t strace.Thread, c *strace.Call) {
	c.Done = false
	from := p.now()
	if b, ok := p.open[t.TID]; ok {
		from = b.at
		delete(p.open, t.TID)
	}
	p.complete(t, c, from, p.now(), "the thread died in it")
}

func (p *perfetto) Exited(t strace.Thread, status uint32) {
	what := fmt.Sprintf("exited with %d", status>>8&0xff)
	if sig := status & 0x7f; sig != 0 {
		what = fmt.Sprintf("killed by signal %d", sig)
	}
	p.counts.Lines++
	p.trace.Instant(chrometrace.Thread(t), "thread", what, p.now(), nil)
	p.trace.Gone(chrometrace.Thread(t))
}

// Detach ends the trace.
func (p *perfetto) Detach() {
	now := p.now()
	for _, b := range p.open {
		p.complete(b.thread, b.call, b.at, now, "tracing ended in it")
	}
	clear(p.open)
	_ = p.trace.Close() // Flush returns the error
}

func (p *perfetto) Flush() error { return p.trace.Flush() }

func (p *perfetto) Counts() strace.Counts {
	c := p.counts
	c.Lost = p.trace.Lost()
	return c
}
