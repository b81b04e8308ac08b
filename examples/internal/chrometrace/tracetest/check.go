// Package tracetest checks traces in Chrome's trace event format, in the words of
// the format's description.
package tracetest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Event is one event, as far as this module's programs write any.
type Event struct {
	Phase    string          `json:"ph"`
	PID      *int            `json:"pid"`
	TID      *int            `json:"tid"`
	Name     string          `json:"name"`
	Category string          `json:"cat"`
	TS       *json.Number    `json:"ts"`
	Dur      *json.Number    `json:"dur"`
	Scope    string          `json:"s"`
	Args     json.RawMessage `json:"args"`

	From, To int64 `json:"-"` // nanoseconds
}

// Thread is what the trace says of one track.
type Thread struct {
	PID, TID      int
	Name, Process string // the last that it had
	// Events are those with and without a duration, in the order of their ends.
	Events []Event
}

type file struct {
	Unit   string            `json:"displayTimeUnit"`
	Other  map[string]string `json:"otherData"`
	Events []Event           `json:"traceEvents"`
}

// Check reads a trace and returns its threads by their ids, or what is wrong with
// it: JSON that does not parse or has fields that the format has not, events
// without what their phase needs, threads without a name, durations of one thread
// that overlap without one holding the other, or that are not written in the
// order of their ends.
func Check(r io.Reader) (map[int]*Thread, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the trace: %v", err)
	}
	switch {
	case f.Unit != "ns" && f.Unit != "ms":
		return nil, fmt.Errorf("displayTimeUnit %q", f.Unit)
	case f.Events == nil:
		return nil, fmt.Errorf("no traceEvents")
	case f.Other["clock"] == "":
		return nil, fmt.Errorf("no word of the clock")
	}
	threads := map[int]*Thread{}
	processes := map[int]string{}
	for i, e := range f.Events {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		th := threads[*e.TID]
		if th == nil || th.PID != *e.PID {
			th = &Thread{PID: *e.PID, TID: *e.TID}
			threads[*e.TID] = th
		}
		if e.Phase != "M" {
			if th.Name == "" || processes[th.PID] == "" {
				return nil, fmt.Errorf("event %d: thread %d of process %d has no name yet", i, th.TID, th.PID)
			}
			th.Events = append(th.Events, e)
			continue
		}
		var named struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(e.Args, &named); err != nil || named.Name == "" {
			return nil, fmt.Errorf("event %d: name %s: %v", i, e.Args, err)
		}
		switch e.Name {
		case "thread_name":
			th.Name = named.Name
		case "process_name":
			processes[th.PID] = named.Name
		default:
			return nil, fmt.Errorf("event %d: metadata %q", i, e.Name)
		}
	}
	for _, th := range threads {
		th.Process = processes[th.PID]
		if err := th.nests(); err != nil {
			return nil, fmt.Errorf("thread %d: %w", th.TID, err)
		}
	}
	return threads, nil
}

func (e *Event) check() (err error) {
	if e.PID == nil || e.TID == nil || *e.PID <= 0 || *e.TID <= 0 || e.Name == "" || e.TS == nil {
		return fmt.Errorf("incomplete: %+v", *e)
	}
	if e.From, err = nanos(*e.TS); err != nil {
		return err
	}
	e.To = e.From
	if trimmed := bytes.TrimSpace(e.Args); len(trimmed) > 0 && trimmed[0] != '{' {
		return fmt.Errorf("args %s", trimmed)
	}
	switch e.Phase {
	case "X":
		if e.Dur == nil || e.Scope != "" {
			return fmt.Errorf("complete event %+v", *e)
		}
		d, err := nanos(*e.Dur)
		e.To += d
		return err
	case "i":
		if e.Dur != nil || e.Scope != "t" {
			return fmt.Errorf("instant event %+v", *e)
		}
	case "M":
		if e.Dur != nil || e.Scope != "" || e.Category != "" {
			return fmt.Errorf("metadata event %+v", *e)
		}
	default:
		return fmt.Errorf("phase %q", e.Phase)
	}
	return nil
}

// nanos takes microseconds as they are written, without rounding.
func nanos(n json.Number) (int64, error) {
	whole, part, _ := bytes.Cut([]byte(n), []byte("."))
	text := append(slices.Clone(whole), append(part, "000"[min(3, len(part)):]...)...)
	var v int64
	if _, err := fmt.Sscanf(string(text), "%d", &v); err != nil || len(part) > 3 || v < 0 {
		return 0, fmt.Errorf("time %s: %v", n, err)
	}
	return v, nil
}

// nests checks the order of the thread's events, and that each is either within
// another or beside it.
func (th *Thread) nests() error {
	for i := 1; i < len(th.Events); i++ {
		if a, b := th.Events[i-1], th.Events[i]; b.To < a.To {
			return fmt.Errorf("%s ends at %d ns and is written after %s, which ends at %d ns", b.Name, b.To, a.Name, a.To)
		}
	}
	order := slices.Clone(th.Events)
	slices.SortStableFunc(order, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(b.To, a.To))
	})
	var open []Event
	for _, e := range order {
		for len(open) > 0 && open[len(open)-1].To <= e.From {
			open = open[:len(open)-1]
		}
		if len(open) > 0 && e.To > open[len(open)-1].To {
			return fmt.Errorf("%s (%d to %d ns) and %s (%d to %d ns) overlap",
				open[len(open)-1].Name, open[len(open)-1].From, open[len(open)-1].To, e.Name, e.From, e.To)
		}
		open = append(open, e)
	}
	return nil
}
