package main

import (
	"bytes"
	"os"
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
		{[]string{"-domain", "g", "-func", "a"}, "one of -pid and -comm"},
		{[]string{"-domain", "g", "-pid", "1", "-comm", "sh"}, "one of -pid and -comm"},
		{[]string{"-domain", "g", "-pid", "0", "-func", "a"}, "-pid 0"},
		{[]string{"-domain", "g", "-comm", "", "-func", "a"}, "-comm is empty"},
		{[]string{"-domain", "g", "-comm", "sh", "-f", "-func", "a"}, "-f goes with -pid"},
		{[]string{"-domain", "g", "-pid", "1"}, "-func is missing"},
		{[]string{"-domain", "g", "-pid", "1", "-func", "a,,b"}, "empty name"},
		{[]string{"-domain", "g", "-pid", "1", "-func", "a", "-max", "0"}, "-max 0"},
		{[]string{"-domain", "g", "-pid", "1", "-func", "a", "-json", "-perfetto"}, "exclude each other"},
		{[]string{"-frobnicate"}, "not defined"},
	} {
		var out, msg bytes.Buffer
		if status := run(t.Context(), nil, tt.args, &out, &msg); status != 2 {
			t.Errorf("%q: status %d, want 2", tt.args, status)
		}
		if !strings.Contains(msg.String(), tt.want) || out.Len() != 0 {
			t.Errorf("%q: %q, output %q", tt.args, msg.String(), out.String())
		}
	}
}

func TestParse(t *testing.T) {
	var msg bytes.Buffer
	got, err := parse([]string{"-domain", "7", "-pid", "3", "-f", "-func", "vfs_*, ksys_read", "-perfetto", "-o", "x"}, &msg)
	want := options{domain: "7", pid: 3, follow: true, functions: []string{"vfs_*", "ksys_read"}, limit: 100, form: formPerfetto, file: "x"}
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
	if status := run(t.Context(), nil, []string{"-domain", "no-such-guest", "-pid", "1", "-func", "a"}, &out, &msg); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if s := msg.String(); !strings.HasPrefix(s, "funcgraph: xen: ") || !strings.Contains(s, want) || strings.Count(s, "\n") != 1 {
		t.Errorf("message %q", s)
	}
}
