package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// row sets what the guest says of itself beside what the trace shows.
type row struct {
	what         string
	guest, trace int
}

var errDisagree = errors.New("the guest and the trace do not agree")

func compare(out io.Writer, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tguest\ttrace\t")
	var err error
	for _, r := range rows {
		mark := ""
		if r.guest != r.trace {
			mark, err = "differs", errDisagree
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", r.what, r.guest, r.trace, mark)
	}
	if ferr := w.Flush(); ferr != nil {
		return ferr
	}
	if err == nil {
		fmt.Fprintln(out, "demo: the guest and the trace agree")
	}
	return err
}
