// Package table1 holds what the experiment of Taubmann and Reiser's Table 1
// measures, as raw data, and makes its report. The experiment itself is the
// command table1 in the lab's dom0.
package table1

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Record is one line of raw data; exactly one member is set.
type Record struct {
	Setup *Setup `json:"setup,omitempty"`
	Run   *Run   `json:"run,omitempty"`
	Cost  *Cost  `json:"cost,omitempty"`
}

// Setup says on what was measured; it begins each boot's data.
type Setup struct {
	// Commit is govmi's, with "-dirty" if files had changed.
	Commit string `json:"commit"`
	// Xen and Kernel are the releases of the hypervisor and of the guest's kernel.
	Xen    string `json:"xen"`
	Kernel string `json:"kernel"`
	// KPTI says that the guest's kernel isolates its page tables.
	KPTI      bool `json:"kpti"`
	MemoryMiB int  `json:"memory_mib"`
	// Files are the sources compiled in each run; OwnRounds is how often after
	// each of them the bash makes one read and one write of its own.
	Files     []string `json:"files"`
	OwnRounds int      `json:"own_rounds"`
}

// IO is a number of read and of write calls.
type IO struct {
	Reads  int `json:"reads"`
	Writes int `json:"writes"`
}

// Run is one run of the workload under one method.
type Run struct {
	Method string `json:"method"`
	Number int    `json:"number"`
	// PhaseMillis is how long the run's start was delayed.
	PhaseMillis int `json:"phase_millis"`
	// Micros is the run's length by the guest's clock, which counts 100
	// instructions as one microsecond.
	Micros int64 `json:"micros"`
	// Objects is how many files were compiled, Digest that of the results.
	Objects int    `json:"objects"`
	Digest  string `json:"digest"`
	// Own is what the bash counted of its own calls, Kernel what its kernel
	// counted of all its calls.
	Own    IO `json:"own"`
	Kernel IO `json:"kernel"`
	// Monitor is what the method's monitor saw; nil without one.
	Monitor *Counts `json:"monitor,omitempty"`
}

// Counts is what a monitor saw of one run. What a method cannot know is nil.
type Counts struct {
	// Syscalls is the number of breakpoint events, of all processes.
	Syscalls uint64 `json:"syscalls"`
	// Own and Kernel are the bash's calls, counted as it and its kernel do.
	Own    IO `json:"own"`
	Kernel IO `json:"kernel"`
	// CR3Events is the number of CR3 writes that came to the monitor.
	CR3Events uint64 `json:"cr3_events"`
	// CR3Exits and CR3Dropped are Xen's own counts.
	CR3Exits   *uint64 `json:"cr3_exits,omitempty"`
	CR3Dropped *uint64 `json:"cr3_dropped,omitempty"`
	// CR3Unwatched is how many of the CR3 events were neither to nor from what
	// is watched; a method with a filter in Xen must know.
	CR3Unwatched *uint64 `json:"cr3_unwatched,omitempty"`
	// Steps is the number of single-step events.
	Steps uint64 `json:"steps,omitempty"`
	// Notes are more counts, by name.
	Notes map[string]uint64 `json:"notes,omitempty"`
}

// What a [Cost] is of.
const (
	CostHit       = "breakpoint hit"
	CostForwarded = "forwarded CR3 write"
	CostDropped   = "dropped CR3 write"
)

// Cost is one measurement of a short loop that does little else than cause
// one kind of event.
type Cost struct {
	What string `json:"what"`
	// Mechanism says what was measured, in words, if there are several.
	Mechanism string `json:"mechanism,omitempty"`
	// Entries is the number of watched roots in Xen's filter.
	Entries int `json:"entries,omitempty"`
	Number  int `json:"number"`
	// Calls is the loop's number of system calls, Events that of the events.
	Calls  int    `json:"calls"`
	Events uint64 `json:"events"`
	// Micros is the loop's length by the guest's clock, BaseMicros that of the
	// same loop with nothing attached.
	Micros     int64 `json:"micros"`
	BaseMicros int64 `json:"base_micros"`
}

// InstructionsPerMicro is the lane's clock: it counts instructions.
const InstructionsPerMicro = 100

// Instructions is the cost of one event.
func (c *Cost) Instructions() float64 {
	return float64(c.Micros-c.BaseMicros) * InstructionsPerMicro / float64(c.Events)
}

// ErrData reports raw data that is malformed or incomplete.
var ErrData = errors.New("table1: data")

const maxLine = 1 << 20

// Read reads records, one a line.
func Read(r io.Reader) ([]Record, error) {
	var records []Record
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		var rec Record
		if err := json.Unmarshal(s.Bytes(), &rec); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrData, n, err)
		}
		if err := rec.valid(); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		records = append(records, rec)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	return records, nil
}

func (r *Record) valid() error {
	n := 0
	for _, set := range []bool{r.Setup != nil, r.Run != nil, r.Cost != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("%w: %d kinds in one record", ErrData, n)
	case r.Run != nil && r.Run.Micros <= 0:
		return fmt.Errorf("%w: run %d of method %s took no time", ErrData, r.Run.Number, r.Run.Method)
	case r.Cost != nil && (r.Cost.Events == 0 || r.Cost.Micros <= 0 || r.Cost.BaseMicros <= 0):
		return fmt.Errorf("%w: cost of a %s without events or time", ErrData, r.Cost.What)
	}
	return nil
}
