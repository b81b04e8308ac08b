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

// Arguments returns the texts of the call's arguments, which stay valid. The list
// is not nil.
func (c *Call) Arguments() []string {
	args := []string{}
	for i := range c.n {
		if a := string(c.Arg(i)); c.kinds[i].glue && len(args) > 0 {
			args[len(args)-1] += a
		} else {
			args = append(args, a)
		}
	}
	return args
}

// ErrorName returns the name of a completed call's error, ENOENT, or "errno 999" for
// one without a name; "" if it succeeded.
func (c *Call) ErrorName() string {
	if !c.Done || c.errno == 0 {
		return ""
	}
	if name := errnoName(c.errno); name != "" {
		return name
	}
	return "errno " + strconv.Itoa(c.errno)
}

func (p *Printer) json(t Thread, c *Call, at time.Time) {
	r := Record{Name: c.Name(), PID: t.PID, TID: t.TID, Comm: t.Comm, Args: c.Arguments(), Raw: []string{}}
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
		r.Error = c.ErrorName()
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
