package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the message
	}{
		{nil, "-domain is missing"},
		{[]string{"-domain", "g", "extra"}, `unexpected argument "extra"`},
		{[]string{"-domain", "g", "-pid", "0"}, "-pid 0"},
		{[]string{"-domain", "g", "-pid", "-3"}, "-pid -3"},
		{[]string{"-domain", "g", "-pid", "5000000"}, "-pid 5000000"},
		{[]string{"-domain", "g", "-pid", "x"}, "invalid value"},
		{[]string{"-domain", "g", "-pid", "1", "-comm", "sh"}, "exclude each other"},
		{[]string{"-domain", "g", "-comm", ""}, "-comm is empty"},
		{[]string{"-domain", "g", "-e", "read,,write"}, "empty name"},
		{[]string{"-domain", "g", "-json", "-c"}, "exclude each other"},
		{[]string{"-domain", "g", "-json", "-perfetto"}, "-perfetto excludes"},
		{[]string{"-domain", "g", "-a", "-1"}, "-a -1"},
		{[]string{"-domain", "g", "-f"}, "-f goes with -pid"},
		{[]string{"-domain", "g", "-filter", "me"}, "none of xen, here, hit"},
		{[]string{"-frobnicate"}, "not defined"},
	} {
		var out, msg bytes.Buffer
		if status := run(t.Context(), tt.args, &out, &msg); status != 2 {
			t.Errorf("%q: status %d, want 2", tt.args, status)
		}
		if !strings.Contains(msg.String(), tt.want) || out.Len() != 0 {
			t.Errorf("%q: %q, output %q", tt.args, msg.String(), out.String())
		}
	}
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
