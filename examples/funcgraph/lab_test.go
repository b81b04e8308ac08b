//go:build lab

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/examples/internal/chrometrace/tracetest"
	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// patience bounds what should take seconds.
const patience = 3 * time.Minute

// traced runs the program on a process that makes n calls of pread64, and returns
// what it printed and said. The guest's own word is checked.
func traced(t *testing.T, g *labtest.Guest, n int, args ...string) (out, msg string, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload calls -kind pread64 -n %d -wait /tmp/go", n))
	m := c.WaitLine(ctx, regexp.MustCompile(`calls ready pid=(\d+) `))
	pid, _ = strconv.Atoi(m[1])
	p := sessiontest.Start(t, "tracing", func(ctx context.Context, out, msg io.Writer) int {
		return run(ctx, nil, append([]string{"-domain", g.Name(), "-pid", m[1]}, args...), out, msg)
	})
	g.MustExec(ctx, "touch /tmp/go")
	if out, status := c.Wait(ctx); status != 0 || !strings.Contains(out, fmt.Sprintf("calls kind=pread64 n=%d pid=%d", n, pid)) {
		t.Errorf("the guest says, with status %d: %s", status, out)
	}
	out = p.Lossless()
	msg = p.Msg.String()
	t.Log(strings.TrimSpace(msg))
	return out, msg, pid
}

// A process reads n times; each time the call tree has the functions that it
// passes, one within the other, with an end, and the guest goes on unharmed.
func TestLabFuncGraph(t *testing.T) {
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	n := labtest.Count(1000)
	const functions = "__x64_sys_pread64,vfs_read,security_file_*,rw_verify_area"
	out, _, pid := traced(t, g, n, "-func", functions, "-json")
	calls := map[string]int{}
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var r record
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.PID != pid || r.Duration == nil {
			t.Errorf("%+v", r)
		}
		// They read the whole of a file of 6 bytes.
		if r.Function == "__x64_sys_pread64" && (r.Depth != 0 || r.RAX != "0x6") {
			t.Errorf("%+v", r)
		}
		calls[fmt.Sprint(r.Function, " ", r.Depth)]++
	}
	if calls["__x64_sys_pread64 0"] != n || calls["vfs_read 1"] != n || calls["rw_verify_area 2"] != n ||
		calls["security_file_permission 2"]+calls["security_file_permission 3"] != n { // 2 where rw_verify_area ends by a jump to it
		t.Errorf("%d calls in the guest, in the trace: %v", n, calls)
	}
	out, _, pid = traced(t, g, n, "-func", functions, "-perfetto")
	threads, err := tracetest.Check(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, th := range threads {
		for _, e := range th.Events {
			if e.Name == "__x64_sys_pread64" && th.PID == pid {
				got++
			}
		}
	}
	if got != n {
		t.Errorf("%d slices of %d calls", got, n)
	}
}
