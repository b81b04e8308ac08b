package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// doctor runs the program with -json.
func doctor(t *testing.T, x *xenfake.Xen, args ...string) (status int, verdicts map[string]verdict, text map[string]string) {
	t.Helper()
	var out, msg bytes.Buffer
	status = run(t.Context(), &xen.Options{Devices: x}, append(args, "-json"), &out, &msg)
	if msg.Len() > 0 {
		t.Errorf("message %q", msg.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	verdicts, text = r.index()
	return status, verdicts, text
}

// all is what the best of guests gets, with some of it otherwise, or left out.
func all(extra map[string]verdict) map[string]verdict {
	m := map[string]verdict{
		"host/hypervisor": good, "host/processor": good, "host/security policy": good, "host/altp2m": good,
		"g/kind": good, "g/state": good, "g/vCPUs": good, "g/registers and memory": good, "g/monitor ring": good,
		"g/events": good, "g/single-step": good, "g/views": good, "g/CR3 filter": good,
	}
	for k, v := range extra {
		if v == "" {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	return m
}

func TestDoctor(t *testing.T) {
	best := xenfake.Config{Capabilities: 0x1f7f, AltP2M: true, CommandLine: "altp2m=1", CR3Filter: true, CR3Targets: true}
	guest := xenfake.DomainConfig{ID: 3, Name: "g", AltP2M: true}
	onlyKind := map[string]verdict{"g/kind": bad, "g/state": "", "g/vCPUs": "", "g/registers and memory": "",
		"g/monitor ring": "", "g/events": "", "g/single-step": "", "g/views": "", "g/CR3 filter": ""}
	for _, tt := range []struct {
		name   string
		xen    func(*xenfake.Config)
		guest  func(*xenfake.DomainConfig)
		does   func(t *testing.T, x *xenfake.Xen, g *xenfake.Domain)
		status int
		diff   map[string]verdict
		says   map[string]string
	}{
		{name: "everything", says: map[string]string{
			"host/hypervisor": `Xen 4.17`, "host/processor": "Intel VT-x with nested page tables (EPT)",
			"g/CR3 filter": "256 roots, with the CR3-target list",
		}},
		{
			name: "AMD", xen: func(c *xenfake.Config) { *c = xenfake.Config{} },
			diff: map[string]verdict{"host/altp2m": limited, "g/single-step": limited, "g/views": limited, "g/CR3 filter": limited},
			says: map[string]string{"host/processor": "AMD-V with nested page tables (NPT)", "g/CR3 filter": "patches/xen", "g/views": "needs an Intel processor"},
		},
		{
			name: "altp2m not booted", xen: func(c *xenfake.Config) { c.AltP2M, c.CommandLine = false, "altp2m=0" },
			diff: map[string]verdict{"host/altp2m": limited, "g/views": limited},
			says: map[string]string{"host/altp2m": "boot Xen with altp2m=1", "g/views": "altp2m=1 on Xen's command line"},
		},
		{
			name: "no altp2m for the domain", guest: func(c *xenfake.DomainConfig) { c.AltP2M = false },
			diff: map[string]verdict{"g/views": limited}, says: map[string]string{"g/views": `altp2m="external"`},
		},
		{name: "PV", guest: func(c *xenfake.DomainConfig) { c.PV = true }, status: exitDomain, diff: onlyKind, says: map[string]string{"g/kind": `type="pvh"`}},
		{name: "shadow", guest: func(c *xenfake.DomainConfig) { c.Shadow = true }, status: exitDomain, diff: onlyKind, says: map[string]string{"g/kind": "hap=1"}},
		{name: "many vCPUs", guest: func(c *xenfake.DomainConfig) { c.VCPUs = 9 }, diff: map[string]verdict{"g/vCPUs": limited}},
		{
			name: "ring without a page", guest: func(c *xenfake.DomainConfig) { c.NoRingPage = true },
			status: exitDomain, diff: map[string]verdict{"g/monitor ring": bad}, says: map[string]string{"g/monitor ring": "the toolstack gave this domain no page"},
		},
		{name: "paused", does: func(t *testing.T, x *xenfake.Xen, _ *xenfake.Domain) {
			attach(t, x, func(d *xen.Domain) error { return d.Pause() })
		},
			diff: map[string]verdict{"g/state": limited}},
		{name: "dying", does: func(_ *testing.T, _ *xenfake.Xen, g *xenfake.Domain) { g.Kill() }, status: exitOK,
			diff: map[string]verdict{"g/kind": "", "g/state": "", "g/vCPUs": "", "g/registers and memory": "",
				"g/monitor ring": "", "g/events": "", "g/single-step": "", "g/views": "", "g/CR3 filter": ""}},
		{
			name:   "monitored",
			does:   func(t *testing.T, x *xenfake.Xen, _ *xenfake.Domain) { attach(t, x, openMonitor) },
			status: exitDomain, diff: map[string]verdict{"g/monitor ring": bad}, says: map[string]string{"g/monitor ring": "end that program"},
		},
		{
			name: "monitor died",
			does: func(t *testing.T, x *xenfake.Xen, _ *xenfake.Domain) {
				attach(t, x, openMonitor)
				x.KillProcesses()
			},
			status: exitDomain, diff: map[string]verdict{"g/monitor ring": bad}, says: map[string]string{"g/monitor ring": "RecoverMonitor"},
		},
		{
			name: "FLASK denies events", xen: func(c *xenfake.Config) {
				c.Flask, c.Policy = true, func(call string) bool { return strings.HasPrefix(call, "domctl monitor_op") }
			},
			status: exitDomain, diff: map[string]verdict{"g/events": bad, "g/single-step": "", "g/views": "", "g/CR3 filter": ""},
			says: map[string]string{"host/security policy": "enforcing", "g/events": "FLASK"},
		},
		{
			name: "FLASK denies registers", xen: func(c *xenfake.Config) {
				c.Flask, c.Policy = true, func(call string) bool { return call == "domctl gethvmcontext_partial" }
			},
			status: exitDomain, diff: map[string]verdict{"g/registers and memory": bad}, says: map[string]string{"g/registers and memory": "FLASK"},
		},
		{name: "FLASK permissive", xen: func(c *xenfake.Config) { c.Flask = true }, says: map[string]string{"host/security policy": "permissive"}},
		{name: "other filter", xen: func(c *xenfake.Config) { c.CR3FilterVersion = 9 }, diff: map[string]verdict{"g/CR3 filter": limited},
			says: map[string]string{"g/CR3 filter": "version 9"}},
		{name: "no events", xen: func(c *xenfake.Config) { c.Capabilities = 1<<abi.MonitorSingleStep | 1<<abi.MonitorWriteCtrlReg }, status: exitDomain,
			diff: map[string]verdict{"g/events": bad}, says: map[string]string{"g/events": "no breakpoints"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, gc := best, guest
			if tt.xen != nil {
				tt.xen(&c)
			}
			if tt.guest != nil {
				tt.guest(&gc)
			}
			x := xenfake.New(t, &c)
			g := x.AddDomain(&gc)
			if tt.does != nil {
				tt.does(t, x, g)
			}
			status, verdicts, text := doctor(t, x)
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if d := cmp.Diff(all(tt.diff), verdicts); d != "" {
				t.Errorf("(-want +got):\n%s\n%v", d, text)
			}
			for check, says := range tt.says {
				if !strings.Contains(text[check], says) {
					t.Errorf("%s: %q lacks %q", check, text[check], says)
				}
			}
		})
	}
}

func openMonitor(d *xen.Domain) error { _, err := d.OpenMonitor(nil); return err }

// attach does something to the guest and leaves it so.
func attach(t *testing.T, x *xenfake.Xen, do func(*xen.Domain) error) {
	t.Helper()
	h, err := xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.Domain(3)
	if err == nil {
		err = do(d)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Hosts that cannot be opened.
func TestHost(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  xenfake.Config
		says string
	}{
		{"privcmd restricted", xenfake.Config{Deny: map[uint64]syscall.Errno{abi.HypercallXenVersion: syscall.EPERM}}, "xen_privcmd.unrestricted"},
		{"no control domain", xenfake.Config{Deny: map[uint64]syscall.Errno{abi.HypercallDomctl: syscall.EPERM}}, "run in dom0"},
		{"too new", xenfake.Config{Major: 4, Minor: 30, Domctl: 0x19}, "speaks 0x19"},
	} {
		status, verdicts, text := doctor(t, xenfake.New(t, &tt.cfg))
		if status != exitHost || verdicts["host/access"] != bad || len(verdicts) != 1 || !strings.Contains(text["host/access"], tt.says) {
			t.Errorf("%s: status %d, %v, %q", tt.name, status, verdicts, text)
		}
	}
}

func TestOneDomain(t *testing.T) {
	x := xenfake.New(t, nil)
	x.AddDomain(&xenfake.DomainConfig{ID: 3, Name: "g"})
	x.AddDomain(&xenfake.DomainConfig{ID: 4, Name: "pv", PV: true})
	if status, v, _ := doctor(t, x, "-domain", "g"); status != exitOK || v["pv/kind"] != "" || v["g/kind"] != good {
		t.Errorf("status %d, %v", status, v)
	}
	if status, v, _ := doctor(t, x); status != exitDomain || v["pv/kind"] != bad || v["g/kind"] != good {
		t.Errorf("status %d, %v", status, v)
	}
	if status, v, _ := doctor(t, x, "-domain", "0"); status != exitDomain || v["Domain-0/kind"] != bad {
		t.Errorf("status %d, %v", status, v)
	}
}

// A domain of which the policy does not even tell the state is reported, too.
func TestDeniedDomain(t *testing.T) {
	x := xenfake.New(t, &xenfake.Config{
		CommandLine: "<denied>", Flask: true, Policy: func(call string) bool { return call == "domctl getdomaininfo" },
	})
	x.AddDomain(&xenfake.DomainConfig{ID: 3, Name: "g"})
	status, v, text := doctor(t, x, "-domain", "3")
	if status != exitDomain || v["3/state"] != bad || !strings.Contains(text["3/state"], "FLASK") {
		t.Errorf("status %d, %v, %q", status, v, text)
	}
}

func TestTable(t *testing.T) {
	x := xenfake.New(t, nil)
	x.AddDomain(&xenfake.DomainConfig{ID: 4, Name: "p\x1bv", PV: true})
	var out, msg bytes.Buffer
	if status := run(t.Context(), &xen.Options{Devices: x}, nil, &out, &msg); status != exitDomain || msg.Len() > 0 {
		t.Errorf("status %d, %q", status, msg.String())
	}
	for _, want := range []string{
		"host\n  hypervisor            ok       Xen 4.17, built today with go; booted with \"\"\n",
		"domain 4 (p?v)\n  kind                  no       PV\n" + strings.Repeat(" ", 33) + "-> type=\"pvh\" or type=\"hvm\" in its configuration\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}

func TestStatus(t *testing.T) {
	x := xenfake.New(t, nil)
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"-help"}, exitOK, "usage: doctor"},
		{[]string{"-x"}, exitUsage, "usage: doctor"},
		{[]string{"more"}, exitUsage, `unexpected argument "more"`},
		{[]string{"-domain", "none"}, exitFailed, `no domain is named "none"`},
	} {
		var msg bytes.Buffer
		if status := run(t.Context(), &xen.Options{Devices: x}, tt.args, io.Discard, &msg); status != tt.status || !strings.Contains(msg.String(), tt.says) {
			t.Errorf("%q: status %d, %q", tt.args, status, msg.String())
		}
	}
	var msg bytes.Buffer
	if status := run(t.Context(), &xen.Options{Devices: x}, nil, failing{}, &msg); status != exitFailed || !strings.Contains(msg.String(), "disk full") {
		t.Errorf("status %d, %q", status, msg.String())
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }
