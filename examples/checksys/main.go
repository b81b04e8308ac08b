// Checksys looks for what a sound Linux kernel does not have: entries of the
// tables of system calls and interrupts that lead out of the kernel, tasks
// and modules that are in no list, code that was changed. Without anything running
// in the guest.
//
//	checksys -domain guest
//	checksys -domain guest -record clean    # once, of a guest that is trusted
//	checksys -domain guest -baseline clean  # also: is its code still the same?
package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

// errFound makes the exit status tell.
var errFound = errors.New("the guest's kernel is not as it should be")

func tool() view.Tool {
	var baseline string
	code := true
	return view.Tool{
		Name: "checksys", About: "Checks the tables, lists and code of a Linux guest's kernel; the exit status is 0 if nothing was found.",
		Flags: func(f *flag.FlagSet) {
			f.BoolVar(&code, "code", code, "check the code of the kernel and its modules, some 16 MiB, against the kernel's own tables of what it changes there")
			f.StringVar(&baseline, "baseline", "", "compare all code with that in this `file`: a recording that checksys made of the guest, or of another with the same kernel and processor, or a dump")
		},
		Run: func(g *view.Guest) (err error) {
			var earlier *linux.Kernel
			if baseline != "" {
				b, openErr := view.Open(baseline)
				if openErr != nil {
					return openErr
				}
				defer func() { err = errors.Join(err, b.Close()) }()
				earlier = b.Kernel
			}
			n := 0
			findings := func(yield func(linux.Finding, error) bool) {
				each := func(f linux.Finding, err error) bool {
					if err == nil {
						n++
					}
					return yield(f, err)
				}
				for f, err := range g.Kernel.Check() {
					if !each(f, err) || err != nil {
						return
					}
				}
				for f, err := range codeFindings(g, code, earlier) {
					if !each(f, err) || err != nil {
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

// codeFindings are those about code. A file that lacks the code is no error, as
// the rest of it serves; a note says that the code was not checked, or what of it.
func codeFindings(g *view.Guest, code bool, earlier *linux.Kernel) func(yield func(linux.Finding, error) bool) {
	return func(yield func(linux.Finding, error) bool) {
		if code {
			note := "of the code, where functions begin and what the kernel's tables tell was checked; -baseline compares all of it"
			for f, err := range g.Kernel.CheckCode() {
				if errors.Is(err, vmi.ErrNotInFile) && earlier == nil {
					note = fmt.Sprintf("the code was not checked: %v", err)
					break
				}
				if !yield(f, err) || err != nil {
					return
				}
			}
			if earlier == nil {
				fmt.Fprintf(g.Notes, "checksys: note: %s\n", note)
			}
		}
		if earlier != nil {
			for f, err := range g.Kernel.CompareCode(earlier) {
				if !yield(f, err) || err != nil {
					return
				}
			}
		}
	}
}
