// Package chrometrace writes what happened in threads in Chrome's trace event
// format, its JSON object form, which ui.perfetto.dev and chrome://tracing show
// as one track per thread
// (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
package chrometrace

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"
)

// Thread is a track: it is shown under its process.
type Thread struct {
	PID, TID int
	Comm     string // printable
}

const (
	// maxPending bounds the text that waits for Flush.
	maxPending = 1 << 20
	// maxNamed bounds the threads and processes whose names are remembered.
	maxNamed = 1 << 15
)

// clock says what the numbers of a trace are.
const clock = "microseconds of dom0's CLOCK_MONOTONIC since the time in begin, read when the monitor handled the event; what monitoring costs is in them"

// Trace is a trace that is written while it is made. Complete and the like only
// add to a buffer in memory, so that they may run while the guest waits; Flush
// writes it out and may run on another goroutine. What Close has ended is valid
// JSON, also without any event.
type Trace struct {
	begin time.Time

	wmu sync.Mutex // held while writing, so that order is kept
	w   io.Writer

	mu         sync.Mutex
	buf, spare []byte
	threads    map[int]Thread // by TID, with the name that was written
	processes  map[int]string
	events     int
	lost       int
	closed     bool
	err        error
}

// New returns a trace whose time begins at begin, which must have a reading of
// the monotonic clock, as time.Now has. The caller closes it.
func New(w io.Writer, begin time.Time) *Trace {
	t := &Trace{w: w, begin: begin, threads: map[int]Thread{}, processes: map[int]string{}}
	t.buf = append(t.buf, `{"displayTimeUnit":"ns","otherData":{"clock":`...)
	t.add(clock)
	t.buf = append(t.buf, `,"begin":`...)
	t.add(begin.UTC().Format(time.RFC3339Nano))
	t.buf = append(t.buf, `},"traceEvents":[`...)
	return t
}

// Complete adds something that took its time. Of one thread they must nest: each
// is added when it ends.
func (t *Trace) Complete(th Thread, category, name string, from, to time.Time, args any) {
	t.mu.Lock()
	defer t.unlock()
	if !t.name(th) {
		return
	}
	if from.Before(t.begin) {
		from = t.begin
	}
	t.event('X', th, name, from)
	t.buf = append(t.buf, `,"dur":`...)
	t.micros(to.Sub(from))
	t.end(category, args)
}

// Instant adds something that took no time.
func (t *Trace) Instant(th Thread, category, name string, at time.Time, args any) {
	t.mu.Lock()
	defer t.unlock()
	if !t.name(th) {
		return
	}
	t.event('i', th, name, at)
	t.buf = append(t.buf, `,"s":"t"`...)
	t.end(category, args)
}

// Gone says that the thread has ended: its id may be another's next.
func (t *Trace) Gone(th Thread) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.threads, th.TID)
	if th.TID == th.PID {
		delete(t.processes, th.PID)
	}
}

// name writes the names of the thread and its process where they are new. It
// reports false if the trace has ended.
func (t *Trace) name(th Thread) bool {
	if t.closed {
		t.lost++
		return false
	}
	if t.threads[th.TID] == th {
		return true
	}
	if len(t.threads) >= maxNamed {
		clear(t.threads)
	}
	t.threads[th.TID] = th
	t.meta("thread_name", th)
	if name, ok := t.processes[th.PID]; !ok || th.TID == th.PID && name != th.Comm {
		if len(t.processes) >= maxNamed {
			clear(t.processes)
		}
		t.processes[th.PID] = th.Comm
		t.meta("process_name", th)
	}
	return true
}

func (t *Trace) meta(what string, th Thread) {
	t.event('M', th, what, t.begin)
	t.buf = append(t.buf, `,"args":{"name":`...)
	if th.Comm == "" { // a process chooses its name
		th.Comm = "(no name)"
	}
	t.add(th.Comm)
	t.buf = append(t.buf, "}}"...)
}

// event begins an event, end ends it.
func (t *Trace) event(phase byte, th Thread, name string, at time.Time) {
	if t.events++; t.events > 1 {
		t.buf = append(t.buf, ',')
	}
	t.buf = append(t.buf, "\n{\"ph\":\""...)
	t.buf = append(t.buf, phase)
	t.buf = append(t.buf, `","pid":`...)
	t.buf = strconv.AppendInt(t.buf, int64(th.PID), 10)
	t.buf = append(t.buf, `,"tid":`...)
	t.buf = strconv.AppendInt(t.buf, int64(th.TID), 10)
	t.buf = append(t.buf, `,"name":`...)
	t.add(name)
	t.buf = append(t.buf, `,"ts":`...)
	t.micros(at.Sub(t.begin))
}

func (t *Trace) end(category string, args any) {
	t.buf = append(t.buf, `,"cat":`...)
	t.add(category)
	if args != nil {
		t.buf = append(t.buf, `,"args":`...)
		t.add(args)
	}
	t.buf = append(t.buf, '}')
}

// add appends a value as JSON.
func (t *Trace) add(v any) {
	b, err := json.Marshal(v)
	if err != nil { // of a type that has no JSON form
		t.err = errors.Join(t.err, err)
		b = []byte("null")
	}
	t.buf = append(t.buf, b...)
}

// micros appends a time in microseconds, with its nanoseconds.
func (t *Trace) micros(d time.Duration) {
	n := max(0, d.Nanoseconds())
	t.buf = strconv.AppendInt(t.buf, n/1000, 10)
	t.buf = append(t.buf, '.', byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
}

// Events returns how many events have been added, those that give names
// included.
func (t *Trace) Events() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events
}

// Lost returns the number of bytes that could not be written and of events that
// came after the end.
func (t *Trace) Lost() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// unlock ends a change, writing the buffer out if it has become too long.
func (t *Trace) unlock() {
	full := len(t.buf) > maxPending
	t.mu.Unlock()
	if full {
		_ = t.Flush() // the error is kept
	}
}

// Flush writes out what has been added. It returns the first error of any
// write; what is added after one is dropped and counted as lost.
func (t *Trace) Flush() error {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	t.mu.Lock()
	out, err := t.buf, t.err
	t.buf, t.spare = t.spare[:0], nil
	t.mu.Unlock()

	n := 0
	if err == nil && len(out) > 0 {
		n, err = t.w.Write(out)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	if err != nil {
		t.lost += len(out) - n
	}
	t.spare = out[:0]
	return err
}

// Close ends the trace and writes it out. It is idempotent: an error of the
// writer comes back each time.
func (t *Trace) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		t.buf = append(t.buf, "\n]}\n"...)
	}
	t.mu.Unlock()
	return t.Flush()
}
