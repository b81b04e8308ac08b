//go:build lab

// Package policy_test has a domain that is not dom0 monitor another one, on a
// Xen that enforces this folder's policy: lab test -xen flask.
package policy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

const (
	label       = "system_u:system_r:"
	monitorType = label + "monitor_t"
	targetType  = label + "monitored_t"
	// otherType is what domains are without a label, too.
	otherType = label + "domU_t"
)

// The monitor is root of a domain of its own. It sees, stops, reads and traces a
// domain that the policy gives it, and gets nothing else.
func TestLabPolicy(t *testing.T) {
	target := labtest.StartGuest(t, guest.Spec{Name: "policy-target", KASLR: true, AltP2M: labtest.VMX(), Label: targetType})
	third := labtest.CreatePaused(t, guest.Spec{Name: "policy-third", MemoryMiB: 128, Label: otherType})
	m := startMonitor(t, guest.Spec{Name: "policy-monitor", PV: true, Label: monitorType})

	// What it may.
	want := []answer{{Op: "domain " + target.DomID().String()}}
	if d := cmp.Diff(want, m.child(t, "list", target)); d != "" {
		t.Errorf("domains (-want +got):\n%s", d)
	}
	for _, a := range m.child(t, "introspect", target) {
		if a.Error != "" {
			t.Errorf("introspection: %+v", a)
		}
	}
	if out, status := m.doctor(t, target); status != 0 || !strings.Contains(out, "FLASK, enforcing") {
		t.Errorf("doctor of the target: status %d", status)
	}
	traces(t, m, target)

	// What it may not.
	denied(t, m, third)
	if out, status := m.doctor(t, third); status == 0 || !strings.Contains(out, "(FLASK) forbids it") {
		t.Errorf("doctor of another domain: status %d", status)
	}
	for _, g := range []*labtest.Guest{target, third} {
		for _, a := range m.child(t, "control", g) {
			if a.Errno != "EACCES" {
				t.Errorf("%s: %+v", g.Name(), a)
			}
		}
		if !g.Alive(t.Context()) {
			t.Errorf("%s is gone", g.Name())
		}
	}
	target.MustExec(t.Context(), "true")

	// Another domain with the same programs, and a monitor of another kind.
	none := startMonitor(t, guest.Spec{Name: "policy-none", PV: true, Label: otherType})
	denied(t, none, target)
	none.Destroy(t.Context())
	pvh := startMonitor(t, guest.Spec{Name: "policy-pvh", Label: monitorType})
	if out, status := pvh.doctor(t, target); status == 0 || !strings.Contains(out, "only a PV domain") {
		t.Errorf("doctor in a PVH domain: status %d", status)
	}
}

// denied has a domain introspect another one in vain.
func denied(t *testing.T, m *monitor, about *labtest.Guest) {
	t.Helper()
	for _, a := range m.child(t, "introspect", about) {
		if a.Kind != "permission" || a.Errno != "EACCES" || !strings.Contains(a.Error, "policy") {
			t.Errorf("%s on %s: %+v", m.Name(), about.Name(), a)
		}
	}
}

// traces follows a command of the target, whose output is the measure.
func traces(t *testing.T, m *monitor, target *labtest.Guest) {
	t.Helper()
	labtest.Intact(t, target)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const calls = 50
	trace := m.Start(ctx, fmt.Sprintf("exec syscalltrace -domain %v -comm cat -e openat", target.DomID()))
	trace.WaitLine(ctx, regexp.MustCompile(`syscalltrace: tracing`))
	target.MustExec(ctx, fmt.Sprintf("for i in $(seq %d); do cat /etc/hostname; done", calls))
	m.MustExec(ctx, fmt.Sprintf("kill -INT %d", trace.PID()))
	out, status := trace.Wait(ctx)
	got := len(regexp.MustCompile(`(?m)^cat\[\d+\] openat\(AT_FDCWD, "/etc/hostname", O_RDONLY.*\) = \d+`).FindAllString(out, -1))
	if status != 0 || got != calls || !strings.Contains(out, " 0 lost") {
		t.Errorf("status %d, %d calls, want %d:\n%s", status, got, calls, out)
	}
	t.Logf("%d calls of %d traced from another domain", got, calls)
}

// monitor is a guest with the programs of a monitor.
type monitor struct{ *labtest.Guest }

const self = "/bin/policytest"

// startMonitor starts a domain that could monitor by all that is in it: dom0's
// kernel, with its modules for that, and programs.
func startMonitor(t *testing.T, spec guest.Spec) *monitor {
	t.Helper()
	spec.Kernel, spec.MemoryMiB = guest.KernelFull, 224
	spec.Files = map[string]string{}
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec.Files[self] = test
	for _, name := range []string{"doctor", "syscalltrace"} {
		spec.Files["/bin/"+name] = filepath.Join(guest.KitDir, "bin", name)
	}
	modules, err := filepath.Glob("/lib/modules/*/xen*.ko")
	if err != nil || len(modules) == 0 {
		t.Fatalf("dom0's modules: %q, %v", modules, err)
	}
	for _, m := range modules {
		spec.Files["/modules/"+filepath.Base(m)] = m
	}
	m := &monitor{labtest.StartGuest(t, spec)}
	m.MustExec(t.Context(), "cd /modules && insmod xen_evtchn.ko && insmod xen_privcmd.ko unrestricted=1")
	return m
}

// child runs this program in the monitor's domain.
func (m *monitor) child(t *testing.T, mode string, about *labtest.Guest) []answer {
	t.Helper()
	out, status := m.Exec(t.Context(), fmt.Sprintf("%s=%s DOMAIN=%d %s", childMode, mode, about.DomID(), self))
	var got []answer
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 || len(got) == 0 {
		t.Fatalf("%s: status %d, %v: %s", mode, status, err, out)
	}
	return got
}

// doctor runs the program in the monitor's domain.
func (m *monitor) doctor(t *testing.T, about *labtest.Guest) (out string, status int) {
	t.Helper()
	out, status = m.Exec(t.Context(), "doctor -domain "+about.DomID().String())
	t.Logf("%s on %s: status %d\n%s", m.Name(), about.Name(), status, out)
	return out, status
}
