//go:build lab

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// childVar has the test program attach to the domain that it names, and die.
const childVar = "GOVMI_DOCTOR_TEST_CHILD"

func TestMain(m *testing.M) {
	name := os.Getenv(childVar)
	if name == "" {
		os.Exit(m.Run())
	}
	h, err := xen.Open(nil)
	if err == nil {
		var d *xen.Domain
		if d, err = h.LookupDomain(name); err == nil {
			_, err = d.OpenMonitor(nil)
		}
	}
	fmt.Println(err)
	os.Stdout.Sync()
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// Guests of several kinds, most of which need not have run for this.
func TestLabDoctor(t *testing.T) {
	vmx := labtest.VMX()
	labtest.CreatePaused(t, guest.Spec{Name: "doctor-pv", MemoryMiB: 128, PV: true})
	plain := labtest.CreatePaused(t, guest.Spec{Name: "doctor-plain", MemoryMiB: 128})
	left := labtest.CreatePaused(t, guest.Spec{Name: "doctor-left", MemoryMiB: 128})
	g := labtest.SharedGuest(t, labtest.Ordinary())

	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVar+"="+left.Name())
	if out, _ := cmd.Output(); string(out) != "<nil>\n" { // it kills itself
		t.Fatalf("the monitor that dies: %q", out)
	}

	verdictIf := func(b bool) verdict {
		if b {
			return good
		}
		return limited
	}
	want := map[string]verdict{
		"host/hypervisor": good, "host/processor": good, "host/security policy": good, "host/altp2m": verdictIf(vmx),
		"doctor-pv/kind": bad,

		"doctor-plain/kind": good, "doctor-plain/state": limited, "doctor-plain/monitor ring": good, "doctor-plain/views": limited,
		"doctor-left/kind": good, "doctor-left/monitor ring": bad,

		g.Name() + "/kind": good, g.Name() + "/state": good, g.Name() + "/vCPUs": good, g.Name() + "/registers and memory": good,
		g.Name() + "/monitor ring": good, g.Name() + "/events": good, g.Name() + "/single-step": verdictIf(vmx),
		g.Name() + "/views": verdictIf(vmx), g.Name() + "/CR3 filter": verdictIf(labtest.PatchedXen(t)),
	}
	status, got, text := diagnosis(t)
	if status != exitDomain {
		t.Errorf("status %d", status)
	}
	for check, v := range want {
		if got[check] != v {
			t.Errorf("%s is %q, want %q: %s", check, got[check], v, text[check])
		}
	}
	virt, line := "AMD-V with nested page tables (NPT)", xl(t, "xen_commandline")
	if vmx {
		virt = "Intel VT-x with nested page tables (EPT)"
	}
	for check, says := range map[string]string{
		"host/hypervisor":          fmt.Sprintf("booted with %q", line),
		"host/processor":           virt,
		"doctor-pv/kind":           `type="pvh"`,
		"doctor-left/monitor ring": "RecoverMonitor",
	} {
		if !strings.Contains(text[check], says) {
			t.Errorf("%s: %q lacks %q", check, text[check], says)
		}
	}
	if vmx && !strings.Contains(text["doctor-plain/views"], `altp2m="external"`) {
		t.Errorf("views: %q", text["doctor-plain/views"])
	}

	// One domain at a time, whose ring a program that lives has.
	if status, _, _ := diagnosis(t, "-domain", g.Name()); status != exitOK {
		t.Errorf("status %d of an ordinary guest", status)
	}
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.LookupDomain(plain.Name())
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	status, got, text = diagnosis(t, "-domain", plain.Name())
	if check := plain.Name() + "/monitor ring"; status != exitDomain || got[check] != bad || !strings.Contains(text[check], "end that program") {
		t.Errorf("status %d, %s", status, text[check])
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	var table, msg bytes.Buffer
	if status := run(t.Context(), nil, nil, &table, &msg); status != exitDomain {
		t.Errorf("status %d: %s", status, msg.String())
	}
	t.Logf("\n%s", table.String())
}

// diagnosis runs the program with -json.
func diagnosis(t *testing.T, args ...string) (status int, verdicts map[string]verdict, text map[string]string) {
	t.Helper()
	var out, msg bytes.Buffer
	status = run(t.Context(), nil, append(args, "-json"), &out, &msg)
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || msg.Len() > 0 {
		t.Fatalf("status %d, %v: %s%s", status, err, msg.String(), out.String())
	}
	verdicts, text = r.index()
	return status, verdicts, text
}

// xl is what xl info says under a name.
func xl(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("xl", "info", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
