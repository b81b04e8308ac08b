package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// A monitor has patched two bytes, given the guest a page, and is killed.
func TestRun(t *testing.T) {
	x := xentest.New(&xentest.Config{Intel: true, AltP2M: true})
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	g := x.AddDomain(&xentest.DomainConfig{ID: 4, Name: "guest", AltP2M: true})
	g.SetPage(3, []byte{0x55, 0x90, 0x55})
	path := filepath.Join(t.TempDir(), "journal")
	h, err := xen.Open(x.Options())
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.LookupDomain("guest")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenMonitor(nil); err != nil {
		t.Fatal(err)
	}
	args := []string{"-domain", "guest", "-journal", path}
	expect := func(status int, out, msg string) {
		t.Helper()
		var o, m bytes.Buffer
		if got := run(x.Options(), args, &o, &m); got != status || m.Len() == 0 != (msg == "") || !strings.Contains(m.String(), msg) || strings.Count(m.String(), "\n") > 1 {
			t.Errorf("status %d, want %d; message %q, want %q", got, status, m.String(), msg)
		}
		if d := cmp.Diff(out, o.String()); d != "" {
			t.Errorf("output (-want +got):\n%s", d)
		}
	}
	expect(exitAlive, "", "its monitor is alive")
	j, err := journal.Open(d, &journal.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	jd := j.Domain()
	if err := jd.SetAltP2M(true); err != nil {
		t.Fatal(err)
	}
	_, err = jd.CreateView()
	err = errors.Join(err, jd.Populate(0x100), jd.Patching(3, 0, []byte{0x55}), jd.Patching(3, 2, []byte{0x55}), jd.Patching(3, 1, []byte{0x90}), d.Pause())
	if err != nil {
		t.Fatal(err)
	}
	g.Page(3)[0], g.Page(3)[2], g.Page(3)[1] = 0xcc, 0xcc, 0x17
	x.KillProcesses()
	expect(0, `2 patched bytes put back: 0x3+0x0, 0x3+0x2
1 patched bytes left alone, the guest has something else there now: 0x3+0x1
the monitor's ring is gone, with its events; vCPUs that waited for an answer run on
altp2m is off, 1 views dropped
1 pages taken back: 0x100
the guest was paused
`, "")
	expect(0, "nothing to recover\n", "")
	if g.Monitored() || g.Pauses() != 0 || g.Page(0x100) != nil {
		t.Errorf("ring %v, %d pauses, a page of %d bytes", g.Monitored(), g.Pauses(), len(g.Page(0x100)))
	}
	args[1] = "nobody"
	expect(1, "", "no domain is named")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"-domain"}, {"-domain", "x", "y"}, {"-frobnicate"}} {
		var out, msg bytes.Buffer
		if status := run(nil, args, &out, &msg); status != 2 || msg.Len() == 0 || out.Len() > 0 {
			t.Errorf("%q: status %d, message %q, output %q", args, status, msg.String(), out.String())
		}
	}
	var out, msg bytes.Buffer
	if status := run(nil, []string{"-help"}, &out, &msg); status != 0 || !strings.Contains(msg.String(), "usage: recover -domain") {
		t.Errorf("-help: status %d, %q", status, msg.String())
	}
}
