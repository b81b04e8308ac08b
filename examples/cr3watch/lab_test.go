//go:build lab

package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// Two processes that hand a byte to each other are seen to be entered at least
// that often, and the program ends with them.
func TestLabFilterWatch(t *testing.T) {
	const n = 100
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	pair := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload cr3switch -n %d -wait /tmp/go", n))
	pids := pair.WaitLine(ctx, regexp.MustCompile(`cr3switch ready pids=(\d+),(\d+)`))[1:]
	p := sessiontest.Start(t, "watching", func(ctx context.Context, out, msg io.Writer) int {
		return run(ctx, nil, []string{"-domain", g.Name(), "-pid", strings.Join(pids, ",")}, out, msg)
	})
	g.MustExec(ctx, "touch /tmp/go")
	if out, status := pair.Wait(ctx); status != 0 {
		t.Errorf("the pair ended with status %d: %s", status, out)
	}
	out := p.Wait()
	for _, pid := range pids {
		// The child's name is that of the link which it was executed by.
		m := regexp.MustCompile(`(?m)^\w+\[` + pid + `\]: entered (\d+) times, ran \d+\.\d+ s, ended$`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("process %s is not in the summary:\n%s", pid, out)
		}
		if times, err := strconv.Atoi(m[1]); err != nil || times < n {
			t.Errorf("process %s entered %s times, want %d at least", pid, m[1], n)
		}
		entering := regexp.MustCompile(`(?m)-> \w+\[`+pid+`\]$`).FindAllString(out, -1)
		if lines := len(entering); fmt.Sprint(lines) != m[1] {
			t.Errorf("%d lines of entering process %s, entered %s times", lines, pid, m[1])
		}
	}
	t.Log(strings.TrimSpace(p.Msg.String()))
}
