// Checksys looks for what a sound Linux kernel does not have: entries of the
// tables of system calls and interrupts that lead out of the kernel, and tasks
// and modules that are in no list. Without anything running in the guest.
//
//	checksys -domain guest
package main

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

// errFound makes the exit status tell.
var errFound = errors.New("the guest's kernel is not as it should be")

func tool() view.Tool {
	return view.Tool{
		Name: "checksys", About: "Checks the tables and lists of a Linux guest's kernel; the exit status is 0 if nothing was found.",
		Run: func(g *view.Guest) error {
			n := 0
			findings := func(yield func(linux.Finding, error) bool) {
				for f, err := range g.Kernel.Check() {
					if err == nil {
						n++
					}
					if !yield(f, err) {
						return
					}
				}
			}
			if err := view.List(g, "FINDING NUMBER NAME ADDRESS WHERE", findings, func(f linux.Finding) []any {
				return []any{f.Kind, f.Number, f.Name, f.Addr, f.Where}
			}); err != nil {
				return err
			}
			if n > 0 {
				return fmt.Errorf("%w: %d findings", errFound, n)
			}
			return nil
		},
	}
}
