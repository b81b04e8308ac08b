// Package conformance is one suite of tests of package xen for every hypervisor
// that there is: the fake one and, in the lab, real ones of several releases on
// both kinds of processor.
//
// The suite decides from the hypervisor's release and processor which features
// it must have, and never from what it answers. What should be there and is not
// fails; what cannot be there has to fail as unsupported, and is in the table
// at the end with the reason.
package conformance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/govmi/govmi/xen"
)

// Target is a hypervisor with a guest.
type Target struct {
	Facts
	Options *xen.Options // nil: the one that this program runs on
	Domain  string       // name of the guest: PVH, one vCPU, running, not monitored
	Guest   Guest
}

// Facts are what is known of a hypervisor without asking package xen.
type Facts struct {
	Minor     int  // of Xen 4
	VMX       bool // the processor is Intel's, otherwise AMD's
	AltP2M    bool // Xen was booted with altp2m=1 and the guest made with altp2m="external"
	CR3Filter bool // Xen has this module's patches
}

// Guest is what the suite has the guest do.
type Guest interface {
	// Breakpoints has a process execute n int3 instructions, and returns when
	// it has got the signal for each.
	Breakpoints(t *testing.T, n int)
	// Switches has the guest write CR3 n times or more.
	Switches(t *testing.T, n int)
	// CPUID has a process execute CPUID n times or more, and sees to it that the
	// answers are right.
	CPUID(t *testing.T, n int)
	// Steps has a process take n debug exceptions or more.
	Steps(t *testing.T, n int)
	// Requests has a process make n requests past its kernel, and returns the
	// hypervisor's answer to the last one: 0, or a negative errno.
	Requests(t *testing.T, n int) int
}

// Feature is what some hypervisors have and others do not.
type feature struct {
	name string
	// missing is why a hypervisor does not have it; empty if it does.
	missing func(*Facts) string
}

// Check is one test of the suite.
type check struct {
	name  string
	needs *feature // nil: every hypervisor can
	run   func(*env)
	// absent tries the feature where it is missing and returns the error.
	absent func(*env) error
}

var checks = concat(domainChecks, memoryChecks, monitorChecks, eventChecks, stepChecks, viewChecks, filterChecks)

func concat(parts ...[]check) (all []check) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// env is what a check works with. It is closed at the check's end.
type env struct {
	*testing.T
	target *Target
	hyp    *xen.Hypervisor
	dom    *xen.Domain
}

// Run runs the suite and logs its table.
func Run(t *testing.T, target *Target) {
	results := make(map[string]string)
	for _, c := range checks {
		missing := ""
		if c.needs != nil {
			missing = c.needs.missing(&target.Facts)
		}
		result := "failed"
		t.Run(c.name, func(t *testing.T) {
			e := open(t, target)
			if missing == "" {
				c.run(e)
				result = "passed"
				return
			}
			if err := c.absent(e); !errors.Is(err, xen.ErrNotSupported) {
				t.Errorf("%s: %v, want it unsupported: %s", c.needs.name, err, missing)
				return
			}
			result = "absent: " + missing
		})
		results[c.name] = result
	}
	t.Log(table(&target.Facts, results))
}

func (f *Facts) String() string {
	s := fmt.Sprintf("Xen 4.%d on AMD", f.Minor)
	if f.VMX {
		s = fmt.Sprintf("Xen 4.%d on Intel", f.Minor)
	}
	if f.CR3Filter {
		s += " with the filter of CR3 writes"
	}
	return s
}

func table(f *Facts, results map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "conformance of %v:\n", f)
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, c := range checks {
		fmt.Fprintf(w, "%s\t%s\n", c.name, results[c.name])
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}

func open(t *testing.T, target *Target) *env {
	t.Helper()
	h, err := xen.Open(target.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	d, err := h.DomainByName(target.Domain)
	if err != nil {
		t.Fatal(err)
	}
	return &env{T: t, target: target, hyp: h, dom: d}
}

// must fails the check.
func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// want fails the check unless err matches.
func (e *env) want(what string, err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("%s: %v, want %v", what, err, want)
	}
}

// monitor opens a monitor, which the check's end closes.
func (e *env) monitor() *xen.Monitor {
	e.Helper()
	m, err := e.dom.OpenMonitor(nil)
	e.must(err)
	e.Cleanup(func() {
		if err := m.Close(); err != nil {
			e.Error(err)
		}
	})
	return m
}
