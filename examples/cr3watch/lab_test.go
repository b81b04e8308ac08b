//go:build lab

package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

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
	var out, msg bytes.Buffer
	done := make(chan int, 1)
	w := &signalling{Buffer: &msg, on: "watching", c: make(chan struct{})}
	go func() { done <- run(ctx, nil, []string{"-domain", g.Name(), "-pid", strings.Join(pids, ",")}, &out, w) }()
	select {
	case <-w.c:
	case status := <-done:
		t.Fatalf("status %d: %s", status, msg.String())
	}
	g.MustExec(ctx, "touch /tmp/go")
	if out, status := pair.Wait(ctx); status != 0 {
		t.Errorf("the pair ended with status %d: %s", status, out)
	}
	if status := <-done; status != 0 {
		t.Errorf("status %d: %s", status, msg.String())
	}
	for _, pid := range pids {
		// The child's name is that of the link which it was executed by.
		m := regexp.MustCompile(`(?m)^\w+\[` + pid + `\]: entered (\d+) times, ran \d+\.\d+ s, ended$`).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("process %s is not in the summary:\n%s", pid, out.String())
		}
		if times, err := strconv.Atoi(m[1]); err != nil || times < n {
			t.Errorf("process %s entered %s times, want %d at least", pid, m[1], n)
		}
		entering := regexp.MustCompile(`(?m)-> \w+\[`+pid+`\]$`).FindAllString(out.String(), -1)
		if lines := len(entering); fmt.Sprint(lines) != m[1] {
			t.Errorf("%d lines of entering process %s, entered %s times", lines, pid, m[1])
		}
	}
	t.Log(strings.TrimSpace(msg.String()))
}

// signalling tells when something has been written to it.
type signalling struct {
	*bytes.Buffer
	on string
	c  chan struct{}
}

func (s *signalling) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if strings.Contains(s.String(), s.on) {
		select {
		case <-s.c:
		default:
			close(s.c)
		}
	}
	return n, err
}
