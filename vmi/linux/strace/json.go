package strace

import (
	"encoding/json"
	"strconv"
	"time"
)

// Record is the JSON form of one call.
type Record struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Raw  []string `json:"raw"` // hexadecimal, because JSON's numbers are not 64 bits wide
	// Ret is the raw return value. It is absent for a call that did not
	// return.
	Ret   *int64 `json:"ret,omitempty"`
	Error string `json:"error,omitempty"`
	PID   int    `json:"pid"`
	TID   int    `json:"tid"`
	Comm  string `json:"comm"`
	// Time is when the call began, absent if it was in flight at the start.
	Time *time.Time `json:"time,omitempty"`
	// Duration is in seconds.
	Duration float64 `json:"duration,omitempty"`
}

func (p *Printer) json(t Thread, c *Call, at time.Time) {
	r := Record{Name: c.Name(), PID: t.PID, TID: t.TID, Comm: t.Comm, Args: []string{}, Raw: []string{}}
	for i := range c.n {
		if a := string(c.Arg(i)); c.kinds[i].glue && len(r.Args) > 0 {
			r.Args[len(r.Args)-1] += a
		} else {
			r.Args = append(r.Args, a)
		}
	}
	if c.Entered {
		for _, a := range c.Args {
			r.Raw = append(r.Raw, "0x"+strconv.FormatUint(a, 16))
		}
		start := c.start.UTC()
		r.Time = &start
		if c.Done {
			r.Duration = at.Sub(c.start).Seconds()
		}
	}
	if c.Done {
		ret := c.Ret
		r.Ret = &ret
		if c.errno != 0 {
			if r.Error = errnoName(c.errno); r.Error == "" {
				r.Error = "errno " + strconv.Itoa(c.errno)
			}
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		p.err = err
		return
	}
	p.counts.Lines++
	p.buf = append(p.buf, line...)
	p.buf = append(p.buf, '\n')
}
