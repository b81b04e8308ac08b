//go:build lab

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// patience bounds what should take seconds.
const patience = 3 * time.Minute

// A function of a library that a process has mapped and not touched: all its calls
// are seen with arguments and results, in the shared page, in a page of its own, and
// where it maps the library next, and none of another process's.
func TestLabUprobe(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	n := labtest.Count(1000)
	c := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload mapped -n %d -wait /tmp/go", n))
	m := c.WaitLine(ctx, regexp.MustCompile(`mapped ready pid=(\d+)`))
	args := []string{"-domain", g.Name(), "-pid", m[1], "-file", "libmapped.so", "-func", "mapped_function", "-ret", "-json"}
	if !labtest.VMX() {
		var out, msg bytes.Buffer
		if status := run(ctx, nil, args, &out, &msg); status != 1 || strings.Count(msg.String(), "\n") != 1 || !strings.Contains(msg.String(), "altp2m") {
			t.Errorf("on AMD: status %d, %q", status, msg.String())
		}
		t.Log(msg.String())
		g.MustExec(ctx, "touch /tmp/go")
		if out, status := c.Wait(ctx); status != 0 {
			t.Errorf("the guest says, with status %d: %s", status, out)
		}
		return
	}
	p := sessiontest.Start(t, "watching", func(ctx context.Context, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	if !strings.Contains(p.Msg.String(), "; 0 breakpoints wait") {
		t.Errorf("not armed before the process calls: %s", p.Msg.String())
	}
	g.MustExec(ctx, "touch /tmp/go")
	out, status := c.Wait(ctx)
	if status != 0 {
		t.Errorf("the guest says, with status %d: %s", status, out)
	}
	// By the guest's own word.
	for _, want := range []string{fmt.Sprintf(`mapped calls=%d pid=%s wrong=0 text=0`, 4*n, m[1]), fmt.Sprintf(`mapped calls=%d pid=\d+ wrong=0 text=0`, n)} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the guest says %q, not %s", out, want)
		}
	}
	calls, x := 0, uint64(1)
	for d := json.NewDecoder(strings.NewReader(p.Lossless())); d.More(); calls++ {
		var got call
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		x = 3*x + 7
		if fmt.Sprint(got.PID) != m[1] || got.TID == 0 || got.Comm != "workload" || got.Function != "mapped_function" || got.Tail ||
			strings.Join(got.Args, " ") != "0x1999999aaaaaaaaa 0x7777777708888888" || got.Return != fmt.Sprintf("%#x", x) {
			t.Fatalf("call %d: %+v, want the return of %#x", calls, got, x)
		}
	}
	t.Logf("%d calls of %d\n%s", calls, 4*n, strings.TrimSpace(p.Msg.String()))
	if calls != 4*n {
		t.Errorf("%d calls, the guest made %d", calls, 4*n)
	}
}
