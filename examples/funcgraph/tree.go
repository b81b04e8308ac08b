package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxPending bounds the text that waits for Flush.
const maxPending = 1 << 20

// pen collects text in memory, so that calls can be written while the guest
// waits; Flush writes it out and may run on another goroutine.
type pen struct {
	w io.Writer

	wmu        sync.Mutex // held while writing, so that order is kept
	mu         sync.Mutex
	buf, spare []byte
	lines      int
	err        error
}

// line adds a line; f appends it, without the newline.
func (p *pen) line(f func(b []byte) []byte) {
	p.mu.Lock()
	p.buf = append(f(p.buf), '\n')
	p.lines++
	full := len(p.buf) > maxPending
	p.mu.Unlock()
	if full {
		_ = p.Flush() // the error is kept
	}
}

// Flush returns the first error of any write; what is added after it is dropped.
func (p *pen) Flush() error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.mu.Lock()
	out, err := p.buf, p.err
	p.buf, p.spare = p.spare[:0], nil
	p.mu.Unlock()
	if err == nil && len(out) > 0 {
		_, err = p.w.Write(out)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.spare = err, out[:0]
	return err
}

// tree writes calls as ftrace's function_graph does: a call without others within
// is one line.
type tree struct {
	pen
	// last is a call whose line waits for what comes next: its end, or another
	// line.
	last    call
	waiting bool
}

func newTree(w io.Writer) *tree {
	t := &tree{pen: pen{w: w}}
	t.line(func(b []byte) []byte {
		return append(b, "# thread               duration      function calls"...)
	})
	return t
}

func (t *tree) enter(c call) {
	t.flushLast()
	t.last, t.waiting = c, true
}

// same reports whether c is the call that waits.
func (t *tree) same(c call) bool {
	return t.waiting && t.last.Thread.TID == c.Thread.TID && t.last.Depth == c.Depth && t.last.Begin.Equal(c.Begin) && t.last.Function == c.Function
}

func (t *tree) leave(c call) {
	leaf := t.same(c)
	if leaf {
		t.waiting = false
	}
	t.flushLast()
	t.line(func(b []byte) []byte {
		b = t.head(b, c)
		if leaf {
			b = append(append(b, c.Function...), "();"...)
		} else {
			b = append(b, '}')
		}
		switch {
		case c.Note != "":
			b = fmt.Appendf(b, " /* %s: %s */", c.Function, c.Note)
		case c.Tail != "":
			b = fmt.Appendf(b, " /* -> %s */", c.Tail)
		case !leaf:
			b = fmt.Appendf(b, " /* %s */", c.Function)
		}
		return b
	})
}

// flushLast writes the beginning of the call that waits: it has others within.
func (t *tree) flushLast() {
	if !t.waiting {
		return
	}
	t.waiting = false
	c := t.last
	t.line(func(b []byte) []byte { return append(append(t.head(b, c), c.Function...), "() {"...) })
}

func (t *tree) finish() { t.flushLast() }

// head is what each line begins with.
func (t *tree) head(b []byte, c call) []byte {
	at := len(b)
	b = fmt.Appendf(b, "%s[%d]", c.Thread.Comm, c.Thread.TID)
	b = pad(b, at, 20)
	at = len(b)
	if !c.End.IsZero() {
		d := c.End.Sub(c.Begin)
		b = fmt.Appendf(b, "%c %10.3f us", mark(d), float64(d.Nanoseconds())/1000)
	}
	b = append(pad(b, at, 15), " | "...)
	return append(b, strings.Repeat("  ", c.Depth)...)
}

// pad fills up with spaces what begins at from.
func pad(b []byte, from, width int) []byte {
	for len(b)-from < width {
		b = append(b, ' ')
	}
	return b
}

// mark is ftrace's sign for long durations.
func mark(d time.Duration) byte {
	switch {
	case d > time.Second:
		return '$'
	case d > 100*time.Millisecond:
		return '@'
	case d > 10*time.Millisecond:
		return '*'
	case d > time.Millisecond:
		return '#'
	case d > 100*time.Microsecond:
		return '!'
	case d > 10*time.Microsecond:
		return '+'
	}
	return ' '
}
