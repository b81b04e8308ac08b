//go:build lab

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// A session on a terminal is seen byte for byte as it went over the terminal, the
// first key and what the shell's programs print included.
func TestLabSession(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	c := g.Start(ctx, `rm -f /tmp/go; exec workload pty -wait /tmp/go 'cat /etc/hostname' "printf '\033[31mred\n'" 'exit 0'`)
	m := c.WaitLine(ctx, regexp.MustCompile(`pty ready pid=(\d+)`))
	p := sessiontest.Start(t, "watching", func(ctx context.Context, out, msg io.Writer) int {
		return run(ctx, nil, []string{"-domain", g.Name(), "-pid", m[1], "-json"}, out, msg)
	})
	g.MustExec(ctx, "touch /tmp/go")
	said, status := c.Wait(ctx)
	if status != 0 {
		t.Errorf("the guest says, with status %d: %s", status, said)
	}
	out := p.Lossless()
	t.Log(strings.TrimSpace(p.Msg.String()))
	var typed, printed []byte
	by := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var r record
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsRune(r.Text, '\x1b') {
			t.Errorf("an escape in %q", r.Text)
		}
		if r.Typed {
			typed = append(typed, r.Data...)
		} else {
			printed = append(printed, r.Data...)
		}
		by[r.Comm] = true
	}
	want := fmt.Sprintf("pty typed=%d sha256=%x printed=%d sha256=%x", len(typed), sha256.Sum256(typed), len(printed), sha256.Sum256(printed))
	if !strings.Contains(said, want) || !by["bash"] || !by["cat"] {
		t.Errorf("the guest says %q; seen: %q, typed %q, printed %q by %v", said, want, typed, printed, by)
	}
}
