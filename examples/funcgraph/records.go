package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/examples/internal/chrometrace"
)

// record is the JSON form of one call.
type record struct {
	Function string `json:"function"`
	PID      int    `json:"pid"`
	TID      int    `json:"tid"`
	Comm     string `json:"comm"`
	// Depth is the number of traced calls that it is within.
	Depth int       `json:"depth"`
	Time  time.Time `json:"time"`
	// Duration is in seconds. It is absent, as is RAX, for a call whose end was
	// not seen.
	Duration *float64 `json:"duration,omitempty"`
	// RAX is in hexadecimal, because JSON's numbers are not 64 bits wide.
	RAX  string `json:"rax,omitempty"`
	Tail string `json:"tail,omitempty"`
	Note string `json:"note,omitempty"`
}

// records writes one JSON object a line, for each call when it ends.
type records struct{ pen }

func (*records) enter(call) {}
func (*records) finish()    {}

func (r *records) leave(c call) {
	rec := record{
		Function: c.Function, PID: c.Thread.PID, TID: c.Thread.TID, Comm: c.Thread.Comm, Depth: c.Depth,
		Time: c.Begin.UTC(), Tail: c.Tail, Note: c.Note,
	}
	if !c.End.IsZero() {
		d := c.End.Sub(c.Begin).Seconds()
		rec.Duration, rec.RAX = &d, hexadecimal(c.RAX)
	}
	r.line(func(b []byte) []byte {
		text, err := json.Marshal(rec)
		if err != nil {
			r.err = err
		}
		return append(b, text...)
	})
}

func hexadecimal(v uint64) string { return fmt.Sprintf("%#x", v) }

// perfetto writes Chrome's trace event format.
type perfetto struct {
	trace *chrometrace.Trace
	now   func() time.Time
}

func newPerfetto(w io.Writer, now func() time.Time) *perfetto {
	return &perfetto{chrometrace.New(w, now()), now}
}

type callArgs struct {
	RAX  string `json:"rax,omitempty"`
	Tail string `json:"tail,omitempty"`
	Note string `json:"note,omitempty"`
}

func (*perfetto) enter(call) {}

func (p *perfetto) leave(c call) {
	args := callArgs{RAX: hexadecimal(c.RAX), Tail: c.Tail, Note: c.Note}
	if c.End.IsZero() {
		c.End, args.RAX = p.now(), ""
	}
	p.trace.Complete(c.Thread, "function", c.Function, c.Begin, c.End, args)
}

func (p *perfetto) finish()      { _ = p.trace.Close() } // Flush returns the error
func (p *perfetto) Flush() error { return p.trace.Flush() }
