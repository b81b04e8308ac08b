package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// call is one call of a function.
type call struct {
	Time     time.Time `json:"time"` // when it began
	PID      int32     `json:"pid"`
	TID      int32     `json:"tid"`
	Comm     string    `json:"comm"`
	Function string    `json:"function"`
	Args     []string  `json:"args"`
	// Return is what it returned, Tail is set instead if it ended by going on in
	// another function.
	Return string `json:"return,omitempty"`
	Tail   bool   `json:"tail,omitempty"`
}

// thread is who calls.
type thread struct {
	addr     vmi.VirtAddr
	pid, tid int32
	comm     string
}

// probe makes lines of calls. Its methods may be called from any goroutine.
type probe struct {
	mu   sync.Mutex
	args int
	json bool
	now  func() time.Time
	// who tells which thread runs.
	who func(r *xen.Request) (thread, error)

	calls kfunc.Calls[call]
	buf   []byte
	seen  int
	lost  int // hits by a thread that could not be told
}

// enter notes that a function begins. Its line comes at its end, where that is watched.
func (p *probe) enter(fn int, f *function, r *xen.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, err := p.who(r)
	if err != nil {
		p.lost++
		return
	}
	p.seen++
	c := call{Time: p.now(), PID: t.pid, TID: t.tid, Comm: t.comm, Function: session.Printable(f.Name), Args: make([]string, p.args)}
	for i := range c.Args {
		v, _ := breakpoint.Argument(&r.Regs, i) // there are as many
		c.Args[i] = fmt.Sprintf("%#x", v)
	}
	if len(f.exits) == 0 {
		p.print(c)
		return
	}
	p.calls.Enter(t.addr, kfunc.Call[call]{Func: fn, SP: r.Regs.RSP, Value: c})
}

// leave notes that a function ends.
func (p *probe) leave(fn int, tail bool, r *xen.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, err := p.who(r)
	if err != nil {
		p.lost++
		return
	}
	k, _, _, ok := p.calls.Leave(t.addr, fn, r.Regs.RSP)
	if !ok {
		return
	}
	c := k.Value
	if c.Tail = tail; !tail {
		c.Return = fmt.Sprintf("%#x", r.Regs.RAX)
	}
	p.print(c)
}

func (p *probe) print(c call) {
	if p.json {
		line, err := json.Marshal(c)
		if err != nil { // it has nothing that could not be
			panic(err)
		}
		p.buf = append(append(p.buf, line...), '\n')
		return
	}
	p.buf = fmt.Appendf(p.buf, "%s %d/%d %s %s(%s)", c.Time.Format("15:04:05.000000"), c.PID, c.TID, c.Comm, c.Function, strings.Join(c.Args, ", "))
	switch {
	case c.Tail:
		p.buf = append(p.buf, " goes on in another function"...)
	case c.Return != "":
		p.buf = append(append(p.buf, " = "...), c.Return...)
	}
	p.buf = append(p.buf, '\n')
}

// take returns the lines since the last time.
func (p *probe) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.buf
	p.buf = nil
	return b
}
