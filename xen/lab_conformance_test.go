//go:build lab

package xen_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen/internal/conformance"
)

// labGuest does what the suite asks for, by programs of the guest.
type labGuest struct{ *labtest.Guest }

func (g labGuest) Breakpoints(t *testing.T, n int) {
	if out := g.MustExec(t.Context(), fmt.Sprintf("workload int3 -n %d", n)); !strings.Contains(out, fmt.Sprintf("int3 n=%d ", n)) {
		t.Errorf("int3 says %q", out)
	}
}

func (g labGuest) Switches(t *testing.T, n int) {
	if out := g.MustExec(t.Context(), fmt.Sprintf("workload cr3switch -n %d", n)); !strings.Contains(out, fmt.Sprintf("cr3switch n=%d ", n)) {
		t.Errorf("cr3switch says %q", out)
	}
}

func (g labGuest) CPUID(t *testing.T, n int) {
	vendor := "AuthenticAMD"
	if labtest.VMX() {
		vendor = "GenuineIntel"
	}
	if out, want := g.MustExec(t.Context(), fmt.Sprintf("workload cpuid -n %d", n)), fmt.Sprintf("cpuid n=%d vendor=%q\n", n, vendor); out != want {
		t.Errorf("cpuid says %q, want %q", out, want)
	}
}

func (g labGuest) Steps(t *testing.T, n int) {
	if out := g.MustExec(t.Context(), fmt.Sprintf("workload singlestep -n %d", n)); !strings.Contains(out, fmt.Sprintf("singlestep n=%d ", n)) {
		t.Errorf("singlestep says %q", out)
	}
}

func (g labGuest) Requests(t *testing.T, n int) (result int) {
	out := g.MustExec(t.Context(), fmt.Sprintf("workload request -n %d", n))
	if _, err := fmt.Sscanf(out, fmt.Sprintf("request n=%d result=%%d", n), &result); err != nil {
		t.Errorf("request says %q", out)
	}
	return result
}

func TestLabConformance(t *testing.T) {
	minor, err := os.ReadFile("/sys/hypervisor/version/minor")
	if err != nil {
		t.Fatal(err)
	}
	facts := conformance.Facts{VMX: labtest.VMX(), AltP2M: labtest.VMX(), CR3Filter: labtest.PatchedXen(t)}
	if facts.Minor, err = strconv.Atoi(strings.TrimSpace(string(minor))); err != nil {
		t.Fatal(err)
	}
	g := sharedGuest(t)
	conformance.Run(t, &conformance.Target{Facts: facts, Domain: g.Name(), Guest: labGuest{g}})
}
