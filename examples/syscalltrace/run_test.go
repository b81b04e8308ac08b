package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
)

func TestUsage(t *testing.T) {
	refused := sessiontest.Refusing(t, run)
	refused("-domain is missing")
	refused(`unexpected argument "extra"`, "-domain", "g", "extra")
	refused("-pid 0", "-domain", "g", "-pid", "0")
	refused("-pid -3", "-domain", "g", "-pid", "-3")
	refused("-pid 5000000", "-domain", "g", "-pid", "5000000")
	refused("invalid value", "-domain", "g", "-pid", "x")
	refused("exclude each other", "-domain", "g", "-pid", "1", "-comm", "sh")
	refused("-comm is empty", "-domain", "g", "-comm", "")
	refused("empty name", "-domain", "g", "-e", "read,,write")
	refused("exclude each other", "-domain", "g", "-json", "-c")
	refused("-perfetto excludes", "-domain", "g", "-json", "-perfetto")
	refused("-a -1", "-domain", "g", "-a", "-1")
	refused("-f goes with -pid", "-domain", "g", "-f")
	refused("none of xen, here, hit", "-domain", "g", "-filter", "me")
	refused("not defined", "-frobnicate")
}

func TestHelp(t *testing.T) {
	var out, msg bytes.Buffer
	if status := run(t.Context(), []string{"-help"}, &out, &msg); status != 0 || !strings.Contains(msg.String(), "usage: syscalltrace -domain") {
		t.Errorf("status %d: %s", status, msg.String())
	}
}

func TestParse(t *testing.T) {
	var msg bytes.Buffer
	got, err := parse([]string{"-domain", "7", "-comm", "bash", "-e", "trace=read, write", "-c", "-o", "f", "-a", "40"}, &msg)
	want := options{domain: "7", comm: "bash", calls: []string{"read", "write"}, summary: true, file: "f", column: 40}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(options{})); err != nil || diff != "" {
		t.Errorf("%v\n%s%s", err, diff, msg.String())
	}
}

// Without a Xen, or without the domain, the program says so in one line.
func TestNoDomain(t *testing.T) {
	want := "Xen control domain"
	if _, err := os.Stat("/dev/xen/privcmd"); err == nil {
		want = "no domain is named"
	}
	var out, msg bytes.Buffer
	if status := run(t.Context(), []string{"-domain", "no-such-guest"}, &out, &msg); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if s := msg.String(); !strings.HasPrefix(s, "syscalltrace: xen: ") || !strings.Contains(s, want) || strings.Count(s, "\n") != 1 {
		t.Errorf("message %q", s)
	}
}

func TestOutputFile(t *testing.T) {
	var out, msg bytes.Buffer
	file := filepath.Join(t.TempDir(), "no", "such", "folder")
	if status := run(t.Context(), []string{"-domain", "g", "-o", file}, &out, &msg); status != 1 || strings.Count(msg.String(), "\n") != 1 {
		t.Errorf("status %d, %q", status, msg.String())
	}
}
