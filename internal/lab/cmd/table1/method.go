package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/table1"
)

// probe is a method's monitor, attached to the guest.
type probe interface {
	// Counts returns what it has seen so far. It may be called at any time
	// before Close.
	Counts() (table1.Counts, error)
	// Close detaches and leaves the guest as it was. It is idempotent, and
	// returns the error that ended the monitor early, if one did.
	Close() error
}

// method is one row of the table. Its name is one of [table1.Methods].
type method struct {
	name string
	// attach attaches the monitor that watches process pid of the guest. nil
	// is no monitor.
	attach func(t *target, pid int) (probe, error)
}

// methods are the paper's, and those beyond.
var methods = []method{
	{table1.Unmonitored, nil},
	{table1.Breakpoints, attachBreakpoints},
	{table1.BreakpointsSteps, attachSteps},
	{table1.Process, attachBound(cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{cr3filter.FilteredHere}, AllWrites: true})},
	{table1.Filter, attachBound(cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{cr3filter.FilteredByXen}, NoTargetList: true})},
	{table1.FilterTargets, attachBound(cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{cr3filter.FilteredByXen}})},
}

// choose returns the methods of a comma-separated list, in the table's order;
// all for the empty one, none for "none".
func choose(list string) ([]method, error) {
	switch list {
	case "":
		return methods, nil
	case "none":
		return nil, nil
	}
	names := strings.Split(list, ",")
	var chosen []method
	for _, m := range methods {
		if i := slices.Index(names, m.name); i >= 0 {
			names = slices.Delete(names, i, i+1)
			chosen = append(chosen, m)
		}
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("no method %s", strings.Join(names, ", "))
	}
	return chosen, nil
}
