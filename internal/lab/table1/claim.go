package table1

import (
	"errors"
	"fmt"
)

// Claim is something that the measurement must show.
type Claim struct {
	What  string `json:"what"`
	Want  string `json:"want"`
	Got   string `json:"got"`
	Holds bool   `json:"holds"`
}

// ErrClaim reports a measurement that does not show what it must.
var ErrClaim = errors.New("table1: does not hold")

// What the measurement must show.
const (
	minGain       = 36.0 // overhead of 3 over that of 4
	maxFilter     = 10.0 // percent
	maxTargets    = 3.0  // percent
	maxDifference = 5.0  // percent, among prices with different numbers of entries
)

// claims checks what the rows at hand can show.
func (r *Report) claims() []Claim {
	var claims []Claim
	three, ok3 := r.Row(Process)
	four, ok4 := r.Row(Filter)
	if ok3 && ok4 {
		gain := three.Overhead / four.Overhead
		claims = append(claims,
			Claim{
				"overhead of method 3 over that of method 4", fmt.Sprintf("at least %.0f", minGain),
				fmt.Sprintf("%.1f", gain), four.Overhead > 0 && gain >= minGain,
			},
			atMost("overhead of method 4", four.OverheadPercent, maxFilter))
	}
	if t, ok := r.Row(FilterTargets); ok {
		claims = append(claims, atMost("overhead of method 4t", t.OverheadPercent, maxTargets))
	}
	if unwatched, ok := r.unwatched(); ok {
		claims = append(claims, Claim{
			"CR3 events at the monitor for switches between unwatched processes, with the filter", "0",
			number(float64(unwatched)), unwatched == 0,
		})
	}
	if c, ok := r.flat(); ok {
		claims = append(claims, c)
	}
	if len(r.Rows) > 1 {
		// NewReport refuses anything else.
		claims = append(claims, Claim{
			"the bash's own count of its calls, and its kernel's, against the monitor's", "equal in every run", "equal", true,
		})
	}
	return claims
}

func atMost(what string, got, limit float64) Claim {
	return Claim{what, fmt.Sprintf("at most %.0f %%", limit), fmt.Sprintf("%.1f %%", got), got <= limit}
}

// unwatched sums the events that the filter should have dropped.
func (r *Report) unwatched() (n uint64, ok bool) {
	for _, row := range r.Rows {
		if m, _ := method(row.Method); !m.Filtered {
			continue
		}
		ok = true
		for _, run := range r.runs(row.Method) {
			n += *run.Monitor.CR3Unwatched
		}
	}
	return n, ok
}

// flat compares the costs of a dropped write with different numbers of
// entries, each mechanism with itself.
func (r *Report) flat() (Claim, bool) {
	type extent struct{ low, high float64 }
	seen := map[string]extent{}
	worst, n := 0.0, 0
	for _, p := range r.Costs {
		if p.What != CostDropped {
			continue
		}
		e, ok := seen[p.Mechanism]
		if !ok {
			seen[p.Mechanism] = extent{p.Instructions.Mean, p.Instructions.Mean}
			continue
		}
		n++
		e = extent{min(e.low, p.Instructions.Mean), max(e.high, p.Instructions.Mean)}
		seen[p.Mechanism] = e
		worst = max(worst, 100*(e.high-e.low)/e.low)
	}
	if n == 0 {
		return Claim{}, false
	}
	return Claim{
		"cost of a dropped CR3 write by the number of entries", fmt.Sprintf("flat within %.0f %%", maxDifference),
		fmt.Sprintf("within %.1f %%", worst), worst <= maxDifference,
	}, true
}

// Check returns an error that wraps [ErrClaim] for each claim that does not
// hold.
func (r *Report) Check() error {
	var errs []error
	for _, c := range r.Claims {
		if !c.Holds {
			errs = append(errs, fmt.Errorf("%w: %s: %s, want %s", ErrClaim, c.What, c.Got, c.Want))
		}
	}
	return errors.Join(errs...)
}
