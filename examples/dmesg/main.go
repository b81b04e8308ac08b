// Dmesg prints the kernel's log of a Linux guest, without anything running in it:
// also that of a guest that has crashed.
//
//	dmesg -domain guest
package main

import (
	"flag"
	"fmt"
	"iter"
	"strings"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	level := uint(7)
	return view.Tool{
		Name: "dmesg", About: "Prints the kernel's log of a Linux guest.",
		Flags: func(f *flag.FlagSet) {
			f.UintVar(&level, "level", level, "leave out messages above this `level`: 3 for errors and worse, 4 for warnings, 6 for information")
		},
		Run: func(g *view.Guest) error {
			records := upTo(g.Kernel.Log(), level)
			if g.JSON {
				return view.List(g, "", records, nil)
			}
			for rec, err := range records {
				if err != nil {
					return err
				}
				for line := range strings.SplitSeq(rec.Text, "\n") {
					if _, err := fmt.Fprintf(g.Out, "[%12.6f] %s\n", rec.Time.Seconds(), session.Printable(line)); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// upTo leaves out what matters less.
func upTo(records iter.Seq2[linux.LogRecord, error], level uint) iter.Seq2[linux.LogRecord, error] {
	return func(yield func(linux.LogRecord, error) bool) {
		for rec, err := range records {
			if (err != nil || uint(rec.Level) <= level) && !yield(rec, err) {
				return
			}
		}
	}
}
