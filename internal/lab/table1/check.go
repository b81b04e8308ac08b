package table1

import (
	"errors"
	"fmt"
)

// ErrCounts reports that the guest's word and the monitor's counts disagree.
var ErrCounts = errors.New("table1: the guest and the monitor do not agree")

// Check compares what the guest says of a run of n files with what the monitor
// saw.
func (r *Run) Check(n int) error {
	where := fmt.Sprintf("method %s, run %d", r.Method, r.Number)
	if r.Objects != n {
		return fmt.Errorf("%w: %s: %d of %d files compiled", ErrCounts, where, r.Objects, n)
	}
	if r.Monitor == nil {
		return nil
	}
	if r.Monitor.Own != r.Own {
		return fmt.Errorf("%w: %s: the bash made %+v calls of its own, the monitor saw %+v", ErrCounts, where, r.Own, r.Monitor.Own)
	}
	if r.Monitor.Kernel != r.Kernel {
		return fmt.Errorf("%w: %s: the bash's kernel counted %+v calls, the monitor %+v", ErrCounts, where, r.Kernel, r.Monitor.Kernel)
	}
	return nil
}
