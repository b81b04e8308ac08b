package strace

import (
	"io"
	"strconv"
	"sync"
	"time"
)

// Thread says who makes a call.
type Thread struct {
	PID  int // thread group: what user code calls the process id
	TID  int
	Comm string
}

// PrinterOptions are a printer's settings. The zero value prints lines.
type PrinterOptions struct {
	// Column is where the return value begins at the earliest, counted from
	// the call's name: strace's -a. 0 leaves one space.
	Column int
	// NoThread omits the "comm[tid] " that begins each line.
	NoThread bool
	// JSON writes one object per call in place of strace's lines.
	JSON bool
	// Quiet writes nothing per call: only the counts are kept.
	Quiet bool
}

// maxPending bounds the text that waits for Flush.
const maxPending = 1 << 20

// Counts are a printer's totals.
type Counts struct {
	Calls int // completed calls
	Lines int // lines begun, the parts of interrupted ones counted each
	Lost  int // bytes that could not be written
}

// Printer makes lines of calls. Enter, Leave and the like only add to a buffer
// in memory, so that they may run while the guest waits; Flush writes it out
// and may run on another goroutine. A buffer that nobody flushes is written
// when it is full.
type Printer struct {
	o PrinterOptions

	wmu sync.Mutex // held while writing, so that order is kept
	w   io.Writer

	mu      sync.Mutex
	buf     []byte
	spare   []byte
	cur     *Call // whose line is open at the buffer's end
	col     int   // where cur's text began
	openLen int   // length of the open line's text
	counts  Counts
	sums    map[uint64]*callSum
	err     error
}

// NewPrinter returns a printer that writes to w. Options may be nil.
func NewPrinter(w io.Writer, o *PrinterOptions) *Printer {
	p := &Printer{w: w, sums: make(map[uint64]*callSum)}
	if o != nil {
		p.o = *o
	}
	return p
}

// Enter shows that thread t has entered c. The line stays open until c
// returns or another thread's line interrupts it. A call that never returns is
// complete with this.
func (p *Printer) Enter(t Thread, c *Call, at time.Time) {
	p.mu.Lock()
	defer p.unlock()
	c.start = at
	if c.NeverReturns() {
		switch {
		case p.o.Quiet:
		case p.o.JSON:
			p.json(t, c, at)
		default:
			p.begin(t)
			p.buf = c.AppendEntry(p.buf)
			p.buf = c.AppendRest(p.buf)
			p.result(c)
		}
		return
	}
	if p.o.JSON || p.o.Quiet {
		return
	}
	p.begin(t)
	p.buf = c.AppendEntry(p.buf)
	p.cur = c
}

// Leave shows that c has returned.
func (p *Printer) Leave(t Thread, c *Call, at time.Time) {
	p.mu.Lock()
	defer p.unlock()
	p.counts.Calls++
	p.count(c, at)
	switch {
	case p.o.Quiet:
		return
	case p.o.JSON:
		p.json(t, c, at)
		return
	}
	p.resume(t, c)
	p.buf = c.AppendRest(p.buf)
	p.result(c)
}

// resume makes c's line the open one.
func (p *Printer) resume(t Thread, c *Call) {
	if p.cur == c {
		p.cur = nil
		return
	}
	p.begin(t)
	p.buf = append(p.buf, "<... "...)
	p.buf = append(p.buf, c.Name()...)
	p.buf = append(p.buf, " resumed>"...)
}

// Killed shows that thread t died within c, which therefore never returns.
func (p *Printer) Killed(t Thread, c *Call) {
	p.mu.Lock()
	defer p.unlock()
	if p.o.Quiet {
		return
	}
	c.Done = false
	if p.o.JSON {
		p.json(t, c, time.Time{})
		return
	}
	p.resume(t, c)
	if c.ready < c.n {
		p.buf = append(p.buf, " <unfinished ...>"...)
	}
	p.buf = append(p.buf, ')')
	p.result(c)
}

// Exited shows the end of a thread with the status that the kernel keeps for
// it: the exit code in bits 8-15, the signal in bits 0-6, bit 7 for a core
// dump.
func (p *Printer) Exited(t Thread, status uint32) {
	p.mu.Lock()
	defer p.unlock()
	if p.o.Quiet || p.o.JSON {
		return
	}
	p.begin(t)
	if sig := status & 0x7f; sig != 0 {
		p.buf = append(p.buf, "+++ killed by "...)
		s := state{buf: p.buf}
		s.sig(uint64(sig))
		p.buf = s.buf
		if status&0x80 != 0 {
			p.buf = append(p.buf, " (core dumped)"...)
		}
	} else {
		p.buf = append(p.buf, "+++ exited with "...)
		p.buf = strconv.AppendUint(p.buf, uint64(status>>8&0xff), 10)
	}
	p.buf = append(p.buf, " +++\n"...)
}

// begin starts a line, and ends the one that is open.
func (p *Printer) begin(t Thread) {
	if p.cur != nil {
		p.buf = append(p.buf, " <unfinished ...>\n"...)
		p.cur = nil
	}
	p.counts.Lines++
	if !p.o.NoThread {
		p.buf = append(p.buf, t.Comm...)
		p.buf = append(p.buf, '[')
		p.buf = strconv.AppendInt(p.buf, int64(t.TID), 10)
		p.buf = append(p.buf, "] "...)
	}
	p.col, p.openLen = len(p.buf), 0
}

// result ends a line with the call's value, at the column that was asked for.
func (p *Printer) result(c *Call) {
	p.buf = append(p.buf, ' ')
	for p.openLen+len(p.buf)-p.col < p.o.Column {
		p.buf = append(p.buf, ' ')
	}
	p.buf = c.AppendResult(p.buf)
	p.buf = append(p.buf, '\n')
}

// Detach ends the line that is open, of a call that had not returned when
// tracing ended.
func (p *Printer) Detach() {
	p.mu.Lock()
	defer p.unlock()
	if p.cur != nil {
		p.buf = append(p.buf, " <detached ...>\n"...)
		p.cur = nil
	}
}

// Counts returns the totals so far.
func (p *Printer) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// unlock ends a change, writing the buffer out if it has become too long.
func (p *Printer) unlock() {
	full := len(p.buf) > maxPending
	p.mu.Unlock()
	if full {
		p.Flush() // the error is kept
	}
}

// Flush writes out what has been added. It returns the first error of any
// write; what is added after one is dropped and counted as lost.
func (p *Printer) Flush() error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.mu.Lock()
	out, err := p.buf, p.err
	// The open line continues in the next buffer; its length so far counts
	// for the column of its value.
	p.openLen += len(p.buf) - p.col
	p.col = 0
	p.buf, p.spare = p.spare[:0], nil
	p.mu.Unlock()

	n := 0
	if err == nil && len(out) > 0 {
		n, err = p.w.Write(out)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if err != nil {
		p.counts.Lost += len(out) - n
	}
	p.spare = out[:0]
	return err
}
