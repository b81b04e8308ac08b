package strace

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// callSum is one row of the summary.
type callSum struct {
	name          string
	nr            uint64
	calls, errors int
	total         time.Duration
}

// count adds a completed call. A call that never returns has no place in
// strace's table.
func (p *Printer) count(c *Call, at time.Time) {
	s := p.sums[c.Nr]
	if s == nil {
		if len(p.sums) >= 2*MaxNr {
			return // numbers without a call are the guest's to choose
		}
		s = &callSum{name: strings.Clone(c.Name()), nr: c.Nr}
		p.sums[c.Nr] = s
	}
	s.calls++
	if c.errno != 0 {
		s.errors++
	}
	if d := at.Sub(c.start); c.Entered && d > 0 {
		s.total += d
	}
}

// Summary writes strace's table of calls. The times are those between entry
// and exit as the handed-in clock saw them, as with strace's -w, and so
// include what tracing itself costs.
func (p *Printer) Summary(w io.Writer) error {
	p.mu.Lock()
	rows := make([]callSum, 0, len(p.sums))
	for _, s := range p.sums {
		rows = append(rows, *s)
	}
	p.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	slices.SortFunc(rows, func(a, b callSum) int {
		return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(a.nr, b.nr))
	})
	all := callSum{name: "total"}
	for _, s := range rows {
		all.calls += s.calls
		all.errors += s.errors
		all.total += s.total
	}
	var b strings.Builder
	const rule = "------ ----------- ----------- --------- --------- ----------------\n"
	b.WriteString("% time     seconds  usecs/call     calls    errors syscall\n" + rule)
	for i := range rows {
		rows[i].row(&b, all.total)
	}
	b.WriteString(rule)
	all.row(&b, 0)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *callSum) row(b *strings.Builder, all time.Duration) {
	share := 100.0
	if s.name != "total" {
		share = 0
		if all > 0 {
			share = 100 * float64(s.total) / float64(all)
		}
	}
	errors := ""
	if s.errors > 0 {
		errors = fmt.Sprint(s.errors)
	}
	fmt.Fprintf(b, "%6.2f %11.6f %11d %9d %9s %s\n", share, s.total.Seconds(), s.total.Microseconds()/int64(s.calls), s.calls, errors, s.name)
}
