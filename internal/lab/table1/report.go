package table1

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Options configure [NewReport]; nil is the defaults.
type Options struct {
	// Methods are the rows that there must be; nil is all of [Methods].
	Methods []string
	// Runs is how many runs there must be of each; 0 is 3.
	Runs int
	// ExitInstructions is what an exit from the guest and the entry after it
	// are taken to cost in the second estimate; 0 is [DefaultExitInstructions].
	ExitInstructions int
}

// DefaultExitInstructions is an assumption, not a measurement: an exit and an
// entry of some 2,000 cycles, at one instruction a cycle.
const DefaultExitInstructions = 2000

// Report is the table with all that it was made from. Its JSON form is the
// published data.
type Report struct {
	Setup            Setup   `json:"setup"`
	ExitInstructions int     `json:"exit_instructions"`
	Rows             []Row   `json:"rows"`
	Costs            []Price `json:"costs"`
	Claims           []Claim `json:"claims"`
	Runs             []Run   `json:"runs"`
	CostRuns         []Cost  `json:"cost_runs"`
}

// Stat is the mean and the sample standard deviation of some runs.
type Stat struct {
	Mean      float64 `json:"mean"`
	Deviation float64 `json:"deviation"`
}

// Row is a method's row. What a method does not have is nil, not 0.
type Row struct {
	Method string `json:"method"`
	Title  string `json:"title"`
	Runs   int    `json:"runs"`
	// Seconds is the guest time of one run.
	Seconds Stat `json:"seconds"`
	// Overhead is the mean time beyond that of no monitor, in seconds and in
	// percent of the latter.
	Overhead        float64 `json:"overhead_seconds"`
	OverheadPercent float64 `json:"overhead_percent"`
	// The events of one run.
	Syscalls  *Stat `json:"syscalls,omitempty"`
	CR3Exits  *Stat `json:"cr3_exits,omitempty"`
	CR3Events *Stat `json:"cr3_events,omitempty"`
	Steps     *Stat `json:"steps,omitempty"`
	// Exits is the number of exits that the method causes in a run, Estimate
	// the second estimate of Seconds and OverheadPercent.
	Exits           float64 `json:"exits"`
	Estimate        float64 `json:"estimate_seconds"`
	EstimatePercent float64 `json:"estimate_percent"`

	paper *PaperRow
}

// Price is the cost of one kind of event in instructions.
type Price struct {
	What         string `json:"what"`
	Mechanism    string `json:"mechanism,omitempty"`
	Entries      int    `json:"entries,omitempty"`
	Runs         int    `json:"runs"`
	Instructions Stat   `json:"instructions"`
}

func stat(values []float64) Stat {
	var s Stat
	for _, v := range values {
		s.Mean += v / float64(len(values))
	}
	if len(values) < 2 {
		return s
	}
	var sum float64
	for _, v := range values {
		sum += (v - s.Mean) * (v - s.Mean)
	}
	s.Deviation = math.Sqrt(sum / float64(len(values)-1))
	return s
}

// NewReport makes the report of raw data. It fails, with an error that wraps
// [ErrData] or [ErrCounts] and lists everything that is missing, rather than
// leaving gaps.
func NewReport(records []Record, o *Options) (*Report, error) {
	if o == nil {
		o = &Options{}
	}
	r := &Report{ExitInstructions: cmp.Or(o.ExitInstructions, DefaultExitInstructions)}
	if err := r.collect(records); err != nil {
		return nil, err
	}
	names := o.Methods
	if names == nil {
		for _, m := range Methods {
			names = append(names, m.Name)
		}
	}
	if err := r.complete(names, cmp.Or(o.Runs, 3), o.Methods == nil); err != nil {
		return nil, err
	}
	for _, m := range Methods {
		if slices.Contains(names, m.Name) {
			r.Rows = append(r.Rows, r.row(m))
		}
	}
	r.prices()
	r.Claims = r.claims()
	return r, nil
}

// collect sorts the records by kind and checks that they belong together.
func (r *Report) collect(records []Record) error {
	setups := 0
	for _, rec := range records {
		switch {
		case rec.Setup != nil:
			if setups++; setups == 1 {
				r.Setup = *rec.Setup
			} else if !reflect.DeepEqual(r.Setup, *rec.Setup) {
				return fmt.Errorf("%w: measured on different things: %+v and %+v", ErrData, r.Setup, *rec.Setup)
			}
		case rec.Run != nil:
			r.Runs = append(r.Runs, *rec.Run)
		case rec.Cost != nil:
			r.CostRuns = append(r.CostRuns, *rec.Cost)
		}
	}
	if setups == 0 {
		return fmt.Errorf("%w: nothing says what was measured", ErrData)
	}
	return nil
}

func (r *Report) runs(method string) []Run {
	var runs []Run
	for _, run := range r.Runs {
		if run.Method == method {
			runs = append(runs, run)
		}
	}
	return runs
}

func (r *Report) complete(names []string, runs int, costs bool) error {
	var errs []error
	missing := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrData}, args...)...))
	}
	if !slices.Contains(names, Unmonitored) {
		missing("method %s is not among the rows, and is the base of all", Unmonitored)
	}
	for _, name := range names {
		m, ok := method(name)
		if !ok {
			missing("there is no method %s", name)
			continue
		}
		got := r.runs(name)
		if len(got) < runs {
			missing("%d runs of method %s, %d are needed", len(got), name, runs)
		}
		phases := map[int]bool{}
		for _, run := range got {
			phases[run.PhaseMillis] = true
			errs = append(errs, r.sound(m, &run))
		}
		if len(phases) < len(got) {
			missing("runs of method %s began at equal phases", name)
		}
	}
	for _, what := range []string{CostHit, CostForwarded, CostDropped} {
		measured := slices.ContainsFunc(r.CostRuns, func(c Cost) bool { return c.What == what })
		if costs && !measured {
			missing("no cost of a %s", what)
		}
	}
	return errors.Join(errs...)
}

// sound checks one run.
func (r *Report) sound(m Method, run *Run) error {
	where := fmt.Sprintf("method %s, run %d", run.Method, run.Number)
	switch {
	case run.Digest == "" || run.Digest != r.Runs[0].Digest:
		return fmt.Errorf("%w: %s: what was compiled is not what it is in other runs", ErrCounts, where)
	case (run.Monitor == nil) != (m.Name == Unmonitored):
		return fmt.Errorf("%w: %s: a monitor's counts, or none of them", ErrData, where)
	case m.Filtered && (run.Monitor.CR3Exits == nil || run.Monitor.CR3Dropped == nil || run.Monitor.CR3Unwatched == nil):
		return fmt.Errorf("%w: %s: counts of the filter are missing", ErrData, where)
	case m.CR3 && run.Monitor.CR3Events == 0:
		return fmt.Errorf("%w: %s: no CR3 event", ErrData, where)
	case m.Name != Unmonitored && run.Monitor.Syscalls == 0:
		return fmt.Errorf("%w: %s: no system call", ErrData, where)
	case m.Name == BreakpointsSteps && run.Monitor.Steps == 0:
		return fmt.Errorf("%w: %s: no single step", ErrData, where)
	}
	if n := r.Setup.OwnRounds * len(r.Setup.Files); run.Own.Reads != n || run.Own.Writes != n+1 {
		return fmt.Errorf("%w: %s: %+v calls of the bash's own, of %d rounds", ErrData, where, run.Own, n)
	}
	return run.Check(len(r.Setup.Files))
}

func (r *Report) base() float64 { return seconds(r.runs(Unmonitored)).Mean }

func seconds(runs []Run) Stat {
	return runStat(runs, func(run *Run) float64 { return float64(run.Micros) / 1e6 })
}

func runStat(runs []Run, value func(*Run) float64) Stat {
	values := make([]float64, len(runs))
	for i := range runs {
		values[i] = value(&runs[i])
	}
	return stat(values)
}

func (r *Report) row(m Method) Row {
	runs := r.runs(m.Name)
	base := r.base()
	row := Row{Method: m.Name, Title: m.Title, Runs: len(runs), Seconds: seconds(runs), paper: m.Paper}
	row.Overhead = row.Seconds.Mean - base
	row.OverheadPercent = 100 * row.Overhead / base
	count := func(value func(*Counts) uint64) *Stat {
		s := runStat(runs, func(run *Run) float64 { return float64(value(run.Monitor)) })
		return &s
	}
	if m.Name != Unmonitored {
		row.Syscalls = count(func(c *Counts) uint64 { return c.Syscalls })
		row.Exits += row.Syscalls.Mean
	}
	if m.Name == BreakpointsSteps {
		row.Steps = count(func(c *Counts) uint64 { return c.Steps })
		row.Exits += row.Steps.Mean
	}
	if m.CR3 {
		row.CR3Events = count(func(c *Counts) uint64 { return c.CR3Events })
		row.CR3Exits = count(func(c *Counts) uint64 {
			if c.CR3Exits == nil {
				return c.CR3Events // without a filter each exit is an event
			}
			return *c.CR3Exits
		})
		row.Exits += row.CR3Exits.Mean
	}
	row.Estimate = row.Seconds.Mean + row.Exits*float64(r.ExitInstructions)/(InstructionsPerMicro*1e6)
	row.EstimatePercent = 100 * (row.Estimate - base) / base
	return row
}

// Row returns a method's row.
func (r *Report) Row(method string) (Row, bool) {
	for _, row := range r.Rows {
		if row.Method == method {
			return row, true
		}
	}
	return Row{}, false
}

// prices averages the costs of each kind.
func (r *Report) prices() {
	type kind struct {
		what, mechanism string
		entries         int
	}
	kinds := map[kind][]float64{}
	for _, c := range r.CostRuns {
		k := kind{c.What, c.Mechanism, c.Entries}
		kinds[k] = append(kinds[k], c.Instructions())
	}
	order := []string{CostHit, CostForwarded, CostDropped}
	sorted := slices.SortedFunc(maps.Keys(kinds), func(a, b kind) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.what), slices.Index(order, b.what)),
			cmp.Compare(a.entries, b.entries), strings.Compare(a.mechanism, b.mechanism))
	})
	for _, k := range sorted {
		r.Costs = append(r.Costs, Price{k.what, k.mechanism, k.entries, len(kinds[k]), stat(kinds[k])})
	}
}

// WriteJSON writes the report with its raw data.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}
