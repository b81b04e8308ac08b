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
	"time"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	level, wall := uint(7), false
	return view.Tool{
		Name: "dmesg", About: "Prints the kernel's log of a Linux guest.",
		Flags: func(f *flag.FlagSet) {
			f.UintVar(&level, "level", level, "leave out messages above this `level`: 3 for errors and worse, 4 for warnings, 6 for information")
			f.BoolVar(&wall, "T", false, "print the time of day, by the guest's clock as it is now, and not seconds since its start")
		},
		Run: func(g *view.Guest) error {
			records := upTo(g.Kernel.Log(), level)
			if g.JSON {
				return view.List(g, "", records, nil)
			}
			stamp := sinceStart
			if wall {
				c, err := g.Kernel.Clock()
				if err != nil {
					return err
				}
				stamp = timeOfDay(c)
			}
			for rec, err := range records {
				if err != nil {
					return err
				}
				for line := range strings.SplitSeq(rec.Text, "\n") {
					if _, err := fmt.Fprintf(g.Out, "[%s] %s\n", stamp(rec.Time), session.Printable(line)); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

func sinceStart(t time.Duration) string { return fmt.Sprintf("%12.6f", t.Seconds()) }

// timeOfDay is for messages of a guest whose clocks show c, in UTC. Like dmesg(1),
// it takes the guest for one that has never slept.
func timeOfDay(c linux.Clock) func(time.Duration) string {
	return func(t time.Duration) string { return c.Wall.Add(t - c.Uptime).Format("2006-01-02 15:04:05.000") }
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
