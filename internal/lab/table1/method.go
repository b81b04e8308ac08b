package table1

// Names of the methods, as the paper numbers them; what has a letter is not in
// the paper.
const (
	Unmonitored      = "1"
	Breakpoints      = "2"
	BreakpointsSteps = "2b"
	Process          = "3"
	Filter           = "4"
	FilterTargets    = "4t"
)

// Method says what a row of the table is.
type Method struct {
	Name, Title string
	// Paper is the paper's row; nil if it has none.
	Paper *PaperRow
	// CR3 says that writes of CR3 are trapped, Filtered that Xen drops some of
	// them and counts: then its counts are part of the data.
	CR3, Filtered bool
}

// PaperRow is one row of the paper's Table 1. Its event counts are sums over
// the ten runs.
type PaperRow struct {
	Seconds float64
	// Overhead in percent, 0 for the base.
	Overhead            float64
	Syscalls, CR3Events int
}

// PaperRuns is how many runs the paper's counts are the sums of.
const PaperRuns = 10

// Methods are the rows of the table, in its order.
var Methods = []Method{
	{Name: Unmonitored, Title: "no monitor", Paper: &PaperRow{Seconds: 5.25}},
	{
		Name: Breakpoints, Title: "breakpoints for all processes, one trip to the monitor each",
		Paper: &PaperRow{Seconds: 148.92, Overhead: 2736, Syscalls: 1_245_130},
	},
	{Name: BreakpointsSteps, Title: "breakpoints for all processes, stepped over in two trips"},
	{
		Name: Process, Title: "process-bound, every CR3 write to the monitor", CR3: true,
		Paper: &PaperRow{Seconds: 117.69, Overhead: 2141, Syscalls: 4, CR3Events: 20_553_669},
	},
	{
		Name: Filter, Title: "process-bound, CR3 writes filtered in Xen", CR3: true, Filtered: true,
		Paper: &PaperRow{Seconds: 8.31, Overhead: 58, Syscalls: 6, CR3Events: 276},
	},
	{Name: FilterTargets, Title: "process-bound, the filter with the processor's CR3-target list", CR3: true, Filtered: true},
}

func method(name string) (Method, bool) {
	for _, m := range Methods {
		if m.Name == name {
			return m, true
		}
	}
	return Method{}, false
}
