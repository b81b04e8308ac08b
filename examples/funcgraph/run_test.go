package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
)

func TestUsage(t *testing.T) {
	refused := sessiontest.Refusing(t, func(ctx context.Context, args []string, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	refused("-domain is missing")
	refused(`unexpected argument "extra"`, "-domain", "g", "extra")
	refused("one of -pid and -comm", "-domain", "g", "-func", "a")
	refused("one of -pid and -comm", "-domain", "g", "-pid", "1", "-comm", "sh")
	refused("-pid 0", "-domain", "g", "-pid", "0", "-func", "a")
	refused("-comm is empty", "-domain", "g", "-comm", "", "-func", "a")
	refused("-f goes with -pid", "-domain", "g", "-comm", "sh", "-f", "-func", "a")
	refused("-func is missing", "-domain", "g", "-pid", "1")
	refused("empty name", "-domain", "g", "-pid", "1", "-func", "a,,b")
	refused("-max 0", "-domain", "g", "-pid", "1", "-func", "a", "-max", "0")
	refused("exclude each other", "-domain", "g", "-pid", "1", "-func", "a", "-json", "-perfetto")
	refused("not defined", "-frobnicate")
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
