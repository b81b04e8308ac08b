package table1

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// WriteMarkdown writes the report for readers.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	r.head(&b)
	r.times(&b)
	r.events(&b)
	r.ratios(&b)
	r.required(&b)
	r.prose(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) head(b *strings.Builder) {
	s := &r.Setup
	fmt.Fprintf(b, `# Table 1, measured again

The experiment of Taubmann and Reiser, "Towards Hypervisor Support for
Enhancing the Performance of Virtual Machine Introspection" (DAIS 2020), by
`+"`make table1`"+` at commit %s: Xen %s on the lab's emulated Intel processor, one
guest with 1 vCPU, %d MiB and Linux %s, KPTI %s.
A bash unpacks jansson's source and compiles %s of it one by one with
gcc -O2 -c; after each file it makes %d writes and %d reads of its own. The
monitor is to see the calls of this bash. `+"`report.json`"+` has all raw data.

`, orUnknown(s.Commit), s.Xen, s.MemoryMiB, s.Kernel, onOff(s.KPTI), plural(len(s.Files), "file"), s.OwnRounds, s.OwnRounds)
}

func (r *Report) times(b *strings.Builder) {
	b.WriteString("| method | runs | guest time per run | overhead | the paper's time | the paper's overhead |\n|---|--:|--:|--:|--:|--:|\n")
	for _, row := range r.Rows {
		time, overhead := dash, dash
		if p := row.paper; p != nil {
			time = fmt.Sprintf("%.2f s", p.Seconds)
			if p.Overhead > 0 {
				overhead = fmt.Sprintf("%.0f %%", p.Overhead)
			}
		}
		own := dash
		if row.Method != Unmonitored {
			own = percent(row.OverheadPercent)
		}
		fmt.Fprintf(b, "| %s: %s | %d | %.2f ± %.2f s | %s | %s | %s |\n",
			row.Method, row.Title, row.Runs, row.Seconds.Mean, row.Seconds.Deviation, own, time, overhead)
	}
	b.WriteString("\nMean and standard deviation; each run of a method starts at another phase of the\nguest's timer. Methods with a letter are not in the paper.\n\n")
}

func (r *Report) events(b *strings.Builder) {
	b.WriteString("| method | system-call events | CR3 exits | CR3 events at the monitor | the paper's system-call events | the paper's CR3 events |\n|---|--:|--:|--:|--:|--:|\n")
	base := r.base()
	cell := func(s *Stat) string {
		if s == nil {
			return dash
		}
		return fmt.Sprintf("%s (%s/s)", number(s.Mean), number(s.Mean/base))
	}
	paper := func(sum int) string {
		if sum == 0 {
			return dash
		}
		return fmt.Sprintf("%s (%s/s)", number(float64(sum)/PaperRuns), number(float64(sum)/PaperRuns/paperBase()))
	}
	for _, row := range r.Rows {
		p := row.paper
		if p == nil {
			p = &PaperRow{}
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n",
			row.Method, cell(row.Syscalls), cell(row.CR3Exits), cell(row.CR3Events), paper(p.Syscalls), paper(p.CR3Events))
	}
	fmt.Fprintf(b, `
Per run and, in brackets, per second of the time without a monitor. The paper
gives sums over its ten runs, which are divided by %d here. Its bash made next
to no calls of its own; here it makes %s in a run, so that what the
process-bound methods see can be compared with what the bash has counted.
Without a filter every exit by a CR3 write becomes an event.

`, PaperRuns, number(float64(2*r.Setup.OwnRounds*len(r.Setup.Files))))
}

func paperBase() float64 {
	m, _ := method(Unmonitored)
	return m.Paper.Seconds
}

// ratio compares two rows; over takes their overheads instead of their times.
type ratio struct {
	name, of, to string
	over         bool
	paper        string
}

func (r *Report) ratios(b *strings.Builder) {
	var lines []string
	for _, q := range []ratio{
		{"time of 2 / time of 4", Breakpoints, Filter, false, "17.9"},
		{"time of 3 / time of 4", Process, Filter, false, "14.2"},
		{"overhead of 3 / overhead of 4", Process, Filter, true, "37"},
		{"overhead of 3 / overhead of 4t", Process, FilterTargets, true, dash},
	} {
		of, ok := r.Row(q.of)
		to, ok2 := r.Row(q.to)
		if !ok || !ok2 {
			continue
		}
		here := of.Seconds.Mean / to.Seconds.Mean
		if q.over {
			here = of.Overhead / to.Overhead
		}
		text := fmt.Sprintf("%.1f", here)
		if q.over && to.Overhead <= 0 {
			text = "not defined: the latter is not measurable"
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %s |\n", q.name, text, q.paper))
	}
	if len(lines) == 0 {
		return
	}
	b.WriteString("| ratio | here | paper |\n|---|--:|--:|\n" + strings.Join(lines, ""))
	r.whyRatios(b)
}

// whyRatios says why ratios of whole times differ from the paper's.
func (r *Report) whyRatios(b *strings.Builder) {
	m2, _ := method(Breakpoints)
	m3, _ := method(Process)
	hit := (m2.Paper.Seconds - paperBase()) * PaperRuns / float64(m2.Paper.Syscalls)
	cr3 := (m3.Paper.Seconds - paperBase()) * PaperRuns / float64(m3.Paper.CR3Events)
	fmt.Fprintf(b, `
The ratios of whole times depend on how many events of each kind the workload
causes and on what one of them costs beside the work itself. In the paper a
breakpoint event cost %.2f ms and a CR3 event %.3f ms, %.0f times less.
`, hit*1e3, cr3*1e3, hit/cr3)
	two, ok2 := r.Row(Breakpoints)
	three, ok3 := r.Row(Process)
	if ok2 && ok3 {
		h, c := two.Overhead/two.Syscalls.Mean, three.Overhead/three.CR3Events.Mean
		fmt.Fprintf(b, `Here, by the overheads above, a breakpoint event costs %.2f ms and a CR3 event
%.2f ms, a factor of %.1f: both are one trip through the same ring. So method 2
is closer to no monitor than the paper's, and method 3 is not.
`, h*1e3, c*1e3, h/c)
	}
	b.WriteString("Nothing was tuned towards the paper's ratios.\n\n")
}

func (r *Report) required(b *strings.Builder) {
	if len(r.Claims) == 0 {
		return
	}
	b.WriteString("| required | limit | measured | holds |\n|---|--:|--:|---|\n")
	for _, c := range r.Claims {
		holds := "yes"
		if !c.Holds {
			holds = "**no**"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", c.What, c.Want, c.Got, holds)
	}
	b.WriteString("\n")
}

func (r *Report) prose(b *strings.Builder) {
	if len(r.Costs) > 0 {
		b.WriteString("## One event\n\n| event | entries in the filter | measurements | instructions |\n|---|--:|--:|--:|\n")
		for _, p := range r.Costs {
			what, entries := p.What, dash
			if p.Mechanism != "" {
				what += ": " + p.Mechanism
			}
			if p.Entries > 0 {
				entries = strconv.Itoa(p.Entries)
			}
			fmt.Fprintf(b, "| %s | %s | %d | %s ± %s |\n", what, entries, p.Runs, number(p.Instructions.Mean), number(p.Instructions.Deviation))
		}
		b.WriteString(`
From loops of getppid, which causes little else; the loop's own time without a
monitor is taken off. Instructions of Xen, dom0's kernel, the monitor and the
guest's detour together.

`)
	}
	fmt.Fprintf(b, `## What the clock shows

The emulator's clock counts instructions, %d to a microsecond, whoever executes
them. It shows the lengths of the paths through Xen, dom0 and the monitor, and
repeats whatever else the machine does. It does not show what instructions cost
on hardware: not caches and TLBs, and above all not the exit from the guest and
the entry after it, here the price of an instruction each.

Second estimate: each exit that a method causes (a breakpoint hit, a single
step, an intercepted CR3 write, dropped or not) is taken to cost %s
instructions more. That is an assumption, some 2,000 cycles at one instruction a
cycle; `+"`table1 report -exit`"+` takes another. Exits that there are without a
monitor as well, and switches between domains, are not counted.

| method | exits of the method per run | time per run, estimated | overhead, estimated |
|---|--:|--:|--:|
`, InstructionsPerMicro, number(float64(r.ExitInstructions)))
	for _, row := range r.Rows {
		over := dash
		if row.Method != Unmonitored {
			over = percent(row.EstimatePercent)
		}
		fmt.Fprintf(b, "| %s | %s | %.2f s | %s |\n", row.Method, number(row.Exits), row.Estimate, over)
	}
}

const dash = "–"

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func percent(p float64) string {
	if math.Abs(p) < 10 {
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// number writes a rounded number with commas between thousands; small ones
// keep two digits.
func number(v float64) string {
	if math.Abs(v) < 10 && v != math.Trunc(v) {
		return fmt.Sprintf("%.1f", v)
	}
	digits := strconv.FormatInt(int64(math.Round(math.Abs(v))), 10)
	var b strings.Builder
	if v < 0 {
		b.WriteByte('-')
	}
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
