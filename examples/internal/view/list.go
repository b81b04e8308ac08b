package view

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"text/tabwriter"

	"github.com/govmi/govmi/examples/internal/session"
)

// List prints the items of a list: in columns with a heading, or as JSON objects
// of the item itself, one a line. What comes before an error is printed.
func List[T any](g *Guest, heading string, items iter.Seq2[T, error], row func(T) []any) error {
	w := tabwriter.NewWriter(g.Out, 0, 8, 2, ' ', 0)
	enc := json.NewEncoder(g.Out)
	enc.SetEscapeHTML(false)
	if !g.JSON {
		fmt.Fprintln(w, strings.ReplaceAll(heading, " ", "\t"))
	}
	for item, err := range items {
		if err == nil && g.JSON {
			err = enc.Encode(item)
		} else if err == nil {
			_, err = fmt.Fprintln(w, cells(row(item)))
		}
		if err != nil {
			_ = w.Flush() // the first error counts
			return err
		}
	}
	return w.Flush()
}

// cells makes a line of a table. The guest chooses what is in the cells.
func cells(row []any) string {
	var b strings.Builder
	for i, c := range row {
		if i > 0 {
			b.WriteByte('\t')
		}
		b.WriteString(session.Printable(fmt.Sprint(c)))
	}
	return b.String()
}
