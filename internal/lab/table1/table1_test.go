package table1

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ptr(n uint64) *uint64 { return &n }

// data is a full measurement: each method's time, and its counts.
func data() []Record {
	records := []Record{{Setup: &Setup{
		Commit: "abc1234", Xen: "4.17.7", Kernel: "6.1.0", KPTI: true, MemoryMiB: 256, Files: []string{"a", "b"}, OwnRounds: 500,
	}}}
	own, kernel := IO{1000, 1001}, IO{1003, 1001}
	for _, m := range []struct {
		name   string
		micros int64
		counts *Counts
	}{
		{Unmonitored, 10_000_000, nil},
		{Breakpoints, 20_000_000, &Counts{Syscalls: 10_000}},
		{BreakpointsSteps, 30_000_000, &Counts{Syscalls: 10_000, Steps: 10_000}},
		{Process, 50_000_000, &Counts{Syscalls: 2004, CR3Events: 60_000}},
		{Filter, 10_800_000, &Counts{Syscalls: 2004, CR3Events: 300, CR3Unwatched: ptr(0), CR3Exits: ptr(60_000), CR3Dropped: ptr(59_700)}},
		{FilterTargets, 10_200_000, &Counts{Syscalls: 2004, CR3Events: 300, CR3Unwatched: ptr(0), CR3Exits: ptr(1000), CR3Dropped: ptr(700)}},
	} {
		for i := range 3 {
			run := &Run{
				Method: m.name, Number: i + 1, PhaseMillis: 37 * i, Micros: m.micros + int64(i-1)*1000,
				Objects: 2, Digest: "d", Own: own, Kernel: kernel,
			}
			if m.counts != nil {
				c := *m.counts
				c.Own, c.Kernel = own, kernel
				run.Monitor = &c
			}
			records = append(records, Record{Run: run})
		}
	}
	for _, c := range []Cost{
		{What: CostHit, Calls: 100, Events: 100, Micros: 81_000, BaseMicros: 1000},
		{What: CostForwarded, Calls: 100, Events: 200, Micros: 135_000, BaseMicros: 1000},
		{What: CostDropped, Entries: 1, Calls: 100, Events: 200, Micros: 5000, BaseMicros: 1000},
		{What: CostDropped, Entries: 256, Calls: 100, Events: 200, Micros: 5100, BaseMicros: 1000},
	} {
		records = append(records, Record{Cost: &c})
	}
	return records
}

func TestReport(t *testing.T) {
	r, err := NewReport(data(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	row, ok := r.Row(Filter)
	if !ok {
		t.Fatal("no row")
	}
	want := Row{
		Method: Filter, Title: row.Title, Runs: 3, Seconds: Stat{10.8, 0.001}, Overhead: 0.8, OverheadPercent: 8,
		Syscalls: &Stat{Mean: 2004}, CR3Exits: &Stat{Mean: 60_000}, CR3Events: &Stat{Mean: 300},
		Exits: 62_004, Estimate: 10.8 + 62_004*2000/1e8, EstimatePercent: 10 * (0.8 + 62_004*2000/1e8),
	}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-6 })
	paper := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".paper" }, cmp.Ignore())
	if diff := cmp.Diff(want, row, near, paper); diff != "" {
		t.Errorf("method 4 (-want +got):\n%s", diff)
	}
	// Method 3 has no counts of Xen's: every exit is an event.
	if row, _ := r.Row(Process); row.CR3Exits == nil || row.CR3Exits.Mean != 60_000 {
		t.Errorf("method 3: exits %v", row.CR3Exits)
	}
	var prices []float64
	for _, p := range r.Costs {
		prices = append(prices, p.Instructions.Mean)
	}
	if diff := cmp.Diff([]float64{80_000, 67_000, 2000, 2050}, prices, near); diff != "" {
		t.Errorf("costs (-want +got):\n%s", diff)
	}
}

func TestClaims(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Record)
		fails  string
	}{
		"gain": {func(r *Record) {
			if r.Run != nil && r.Run.Method == Process {
				r.Run.Micros = 30_000_000
			}
		}, "overhead of method 3 over"},
		"filter": {func(r *Record) {
			if r.Run != nil && r.Run.Method == Filter {
				r.Run.Micros = 11_100_000
			}
			if r.Run != nil && r.Run.Method == Process {
				r.Run.Micros = 90_000_000
			}
		}, "overhead of method 4:"},
		// Faster than without a monitor is no gain without bounds.
		"negative": {func(r *Record) {
			if r.Run != nil && r.Run.Method == Filter {
				r.Run.Micros = 9_900_000
			}
		}, "overhead of method 3 over"},
		"targets": {func(r *Record) {
			if r.Run != nil && r.Run.Method == FilterTargets {
				r.Run.Micros = 10_400_000
			}
		}, "overhead of method 4t"},
		"unwatched": {runs(FilterTargets, func(r *Run) { r.Monitor.CR3Unwatched = ptr(1) }), "unwatched processes"},
		"flat": {func(r *Record) {
			if r.Cost != nil && r.Cost.Entries == 256 {
				r.Cost.Micros = 5300
			}
		}, "number of entries"},
	} {
		t.Run(name, func(t *testing.T) {
			records := data()
			for i := range records {
				tc.change(&records[i])
			}
			r, err := NewReport(records, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Check(); !errors.Is(err, ErrClaim) || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("got %v, want one about %q", err, tc.fails)
			}
		})
	}
}

// What is missing or contradicts is an error, never a zero in the table.
func TestReportRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Record)
		want   error
	}{
		"no setup":            {func(r *Record) { r.Setup = nil }, ErrData},
		"a method is missing": {runs(Process, func(r *Run) { r.Method = Filter }), ErrData},
		"equal phases":        {runs(Process, func(r *Run) { r.PhaseMillis = 0 }), ErrData},
		"no monitor":          {runs(Breakpoints, func(r *Run) { r.Monitor = nil }), ErrData},
		"a monitor too many":  {runs(Unmonitored, func(r *Run) { r.Monitor = &Counts{Own: r.Own, Kernel: r.Kernel} }), ErrData},
		"no counts of Xen's":  {runs(Filter, func(r *Run) { r.Monitor.CR3Exits = nil }), ErrData},
		"no unwatched":        {runs(Filter, func(r *Run) { r.Monitor.CR3Unwatched = nil }), ErrData},
		"no CR3 event":        {runs(Process, func(r *Run) { r.Monitor.CR3Events = 0 }), ErrData},
		"no system call":      {runs(Breakpoints, func(r *Run) { r.Monitor.Syscalls = 0 }), ErrData},
		"no step":             {runs(BreakpointsSteps, func(r *Run) { r.Monitor.Steps = 0 }), ErrData},
		"another object":      {runs(Filter, func(r *Run) { r.Digest = "e" }), ErrCounts},
		"other own calls":     {runs(Filter, func(r *Run) { r.Own.Reads, r.Monitor.Own.Reads = 10, 10 }), ErrData},
		"a file too few":      {runs(Filter, func(r *Run) { r.Objects-- }), ErrCounts},
		"a call too few":      {runs(Filter, func(r *Run) { r.Monitor.Own.Reads-- }), ErrCounts},
		"a read too many":     {runs(Filter, func(r *Run) { r.Monitor.Kernel.Reads++ }), ErrCounts},
		"no cost": {func(r *Record) {
			if r.Cost != nil && r.Cost.What == CostHit {
				r.Cost.What = CostForwarded
			}
		}, ErrData},
	} {
		t.Run(name, func(t *testing.T) {
			records := data()
			for i := range records {
				tc.change(&records[i])
			}
			if r, err := NewReport(records, nil); !errors.Is(err, tc.want) {
				t.Errorf("got %v and %v, want %v", r, err, tc.want)
			}
		})
	}
	t.Run("two setups", func(t *testing.T) {
		other := *data()[0].Setup
		other.Commit = "def5678"
		if _, err := NewReport(append(data(), Record{Setup: &other}), nil); !errors.Is(err, ErrData) {
			t.Errorf("got %v, want %v", err, ErrData)
		}
	})
	t.Run("a run too few", func(t *testing.T) {
		if _, err := NewReport(data(), &Options{Runs: 4}); !errors.Is(err, ErrData) {
			t.Errorf("got %v, want %v", err, ErrData)
		}
	})
}

func runs(method string, change func(*Run)) func(*Record) {
	return func(r *Record) {
		if r.Run != nil && r.Run.Method == method {
			change(r.Run)
		}
	}
}

func TestPartial(t *testing.T) {
	r, err := NewReport(data(), &Options{Methods: []string{Unmonitored, Breakpoints}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "time of 3") || !strings.Contains(b.String(), "| 2: ") {
		t.Errorf("rows that are not there:\n%s", &b)
	}
}

func TestMarkdown(t *testing.T) {
	r, err := NewReport(data(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"at commit abc1234",
		"| 1: no monitor | 3 | 10.00 ± 0.00 s | – | 5.25 s | – |",
		"| 3: process-bound, every CR3 write to the monitor | 3 | 50.00 ± 0.00 s | 400.0 % | 117.69 s | 2141 % |",
		"| 3 | 2,004 (200/s) | 60,000 (6,000/s) | 60,000 (6,000/s) | 0.4 (0.1/s) | 2,055,367 (391,498/s) |",
		"| 2b | 10,000 (1,000/s) | – | – | – | – |",
		"| overhead of 3 / overhead of 4 | 50.0 | 37 |",
		"| time of 2 / time of 4 | 1.9 | 17.9 |",
		"breakpoint event cost 1.15 ms and a CR3 event 0.055 ms, 21 times less",
		"| dropped CR3 write | 256 | 1 | 2,050 ± 0 |",
		"| 4 | 62,004 | 12.04 s | 20.4 % |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") || strings.Contains(b.String(), "**no**") {
		t.Errorf("not numbers, or claims that do not hold:\n%s", &b)
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

func TestSVGIsXML(t *testing.T) {
	records := data()
	for i := range records {
		runs(FilterTargets, func(r *Run) { r.Micros = 9_990_000 })(&records[i]) // an overhead below nothing
	}
	r, err := NewReport(records, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	circles := 0
	for d := xml.NewDecoder(&b); ; {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	// Five here, three of the paper's, two in the legend.
	if circles != 10 || strings.Contains(text, "NaN") {
		t.Errorf("%d circles, want 10:\n%s", circles, text)
	}
}

func TestJSONAndRead(t *testing.T) {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	for _, rec := range data() {
		if err := enc.Encode(rec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Read(&raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(data(), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r, err := NewReport(got, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Runs) != 18 || len(back.Rows) != 6 || len(back.CostRuns) != 4 {
		t.Errorf("%d runs, %d rows, %d costs", len(back.Runs), len(back.Rows), len(back.CostRuns))
	}
	for _, bad := range []string{
		"x", "{}", `{"run":{"method":"1","micros":0}}`, `{"cost":{"what":"breakpoint hit","micros":1,"base_micros":1}}`,
		`{"setup":{},"run":{"method":"1","micros":1}}`,
	} {
		if _, err := Read(strings.NewReader(bad + "\n")); !errors.Is(err, ErrData) {
			t.Errorf("%s: %v, want %v", bad, err, ErrData)
		}
	}
}
