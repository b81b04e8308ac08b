package table1

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// The plot's measures in pixels.
const (
	plotWidth  = 760
	plotLeft   = 350 // of the axis
	plotRight  = 60  // room for the last label
	plotTop    = 64
	plotRow    = 44
	plotBottom = 46
)

// style is readable on light and on dark pages; the picture has no background.
const style = `
text { font: 13px -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.stem { stroke: #0969da; stroke-width: 4; stroke-linecap: round; opacity: .35 }
.here { fill: #0969da }
.paper { fill: none; stroke: #bc4c00; stroke-width: 2 }
.value { fill: #0969da; font-weight: 600 }
@media (prefers-color-scheme: dark) {
	text { fill: #f0f6fc }
	.small { fill: #9198a1 }
	.grid { stroke: #3d444d }
	.stem { stroke: #4493f8 }
	.here { fill: #4493f8 }
	.paper { stroke: #f0883e }
	.value { fill: #4493f8 }
}
`

// WriteSVG draws the overheads, those of the paper beside them.
func (r *Report) WriteSVG(w io.Writer) error {
	var rows []Row
	low, high := math.Inf(1), math.Inf(-1)
	for _, row := range r.Rows {
		if row.Method == Unmonitored {
			continue
		}
		rows = append(rows, row)
		for _, v := range row.plotted() {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if len(rows) == 0 || high < 0 {
		return fmt.Errorf("%w: no overhead to draw", ErrData)
	}
	axis := logAxis{math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))}
	if axis.low == axis.high {
		axis.high++
	}
	height := plotTop + plotRow*len(rows) + plotBottom
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Overhead of the methods of Table 1">`, plotWidth, height, plotWidth, height)
	line("<style>%s</style>", style)
	line(`<text class="title" x="12" y="22">Overhead of tracing one process while it compiles a library</text>`)
	line(`<circle class="here" cx="18" cy="42" r="5"/><text class="small" x="30" y="46">here: guest time beyond that of no monitor</text>`)
	line(`<circle class="paper" cx="%d" cy="42" r="5"/><text class="small" x="%d" y="46">the paper (2020)</text>`, plotLeft, plotLeft+12)
	bottom := plotTop + plotRow*len(rows)
	for e := axis.low; e <= axis.high; e++ {
		x := axis.x(math.Pow(10, e))
		line(`<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, x, plotTop, x, bottom)
		line(`<text class="small" x="%.1f" y="%d" text-anchor="middle">%s %%</text>`, x, bottom+18, power(e))
	}
	line(`<text class="small" x="12" y="%d">logarithmic scale; instructions as time, see the report</text>`, bottom+36)
	for i, row := range rows {
		y := plotTop + plotRow*i + plotRow/2
		name, note, _ := strings.Cut(row.Title, ", ")
		line(`<text x="12" y="%d">%s</text><text x="38" y="%d">%s</text>`, y-2, html.EscapeString(row.Method), y-2, html.EscapeString(name))
		line(`<text class="small" x="38" y="%d">%s</text>`, y+13, html.EscapeString(note))
		if row.paper != nil {
			line(`<circle class="paper" cx="%.1f" cy="%d" r="6"><title>the paper: %.0f %%</title></circle>`, axis.x(row.paper.Overhead), y, row.paper.Overhead)
		}
		x := axis.x(row.OverheadPercent)
		line(`<line class="stem" x1="%d" y1="%d" x2="%.1f" y2="%d"/>`, plotLeft, y, x, y)
		line(`<circle class="here" cx="%.1f" cy="%d" r="6"><title>here: %s</title></circle>`, x, y, percent(row.OverheadPercent))
		line(`<text class="value" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, y-10, percent(row.OverheadPercent))
	}
	line("</svg>")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Row) plotted() []float64 {
	if r.paper == nil {
		return []float64{r.OverheadPercent}
	}
	return []float64{r.OverheadPercent, r.paper.Overhead}
}

// logAxis runs from one power of ten to another.
type logAxis struct{ low, high float64 }

// x is a value's place; what is below the axis, as an overhead of nothing, is
// at its beginning.
func (a logAxis) x(v float64) float64 {
	at := a.low
	if v > 0 {
		at = max(a.low, math.Log10(v))
	}
	return plotLeft + (plotWidth-plotRight-plotLeft)*(at-a.low)/(a.high-a.low)
}

func power(e float64) string {
	if e < 0 {
		return fmt.Sprintf("%.*f", int(-e), math.Pow(10, e))
	}
	return number(math.Pow(10, e))
}
