//go:build lab

package main

import (
	"bytes"
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
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi/linux/strace"
)

// patience bounds what should take seconds.
const patience = 3 * time.Minute

// start returns when breakpoints are in place.
func start(t *testing.T, args ...string) *sessiontest.Program {
	t.Helper()
	return sessiontest.Start(t, "tracing", func(ctx context.Context, out, msg io.Writer) int { return run(ctx, args, out, msg) })
}

func count(out, pattern string) int {
	return len(regexp.MustCompile("(?m)"+pattern).FindAllString(out, -1))
}

// caller starts a process that makes n calls when go is touched.
func caller(t *testing.T, g *labtest.Guest, kind string, n int, more string) (*labtest.Command, int) {
	t.Helper()
	c := g.Start(t.Context(), fmt.Sprintf("rm -f /tmp/go; exec workload calls -kind %s -n %d %s -wait /tmp/go", kind, n, more))
	m := c.WaitLine(t.Context(), regexp.MustCompile(`calls ready pid=(\d+) `))
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return c, pid
}

var shared = labtest.Ordinary()

// Each completed call of the process is one line, and nobody else's are.
func TestLabEveryCall(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	busy := g.Start(t.Context(), "exec workload busy -kinds pread64,getuid -spin 1000000")
	n := labtest.Count(2000)
	c, pid := caller(t, g, "pread64", n, "")
	tr := start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid))
	g.MustExec(t.Context(), "touch /tmp/go")
	if out, status := c.Wait(t.Context()); status != 0 {
		t.Errorf("the guest's process ended with %d: %s", status, out)
	}
	out := tr.Lossless() // it ends with the process
	g.MustExec(t.Context(), fmt.Sprintf("kill -TERM %d", busy.PID()))
	busy.Wait(t.Context())

	whole := count(out, `^workload\[\d+\] pread64\(\d+, "[^"]+", 16, 0\) = \d+$`)
	resumed := count(out, `^workload\[\d+\] <\.\.\. pread64 resumed>"[^"]+", 16, 0\) = \d+$`)
	if whole+resumed != n {
		t.Errorf("%d lines of pread64 and %d resumed, want %d", whole, resumed, n)
	}
	if all := count(out, `\] (<\.\.\. )?pread64( resumed>|\()`); all != whole+2*resumed {
		t.Errorf("%d lines name pread64, want %d", all, whole+2*resumed)
	}
	for _, want := range []string{
		fmt.Sprintf(`^workload\[\d+\] write\(1, "calls kind=pread64 n=%d pid=\d+(\\n)?"(\.\.\.)?, \d+( <unfinished \.\.\.>|\) = \d+)$`, n),
		`^workload\[\d+\] (faccessat2?|access)\(.*"/tmp/go", F_OK( <unfinished \.\.\.>|\) = 0)$`,
		`^workload\[\d+\] exit_group\(0\) += \?$`,
		`^workload\[\d+\] \+\+\+ exited with 0 \+\+\+$`,
	} {
		if count(out, want) == 0 {
			t.Errorf("no line %s", want)
		}
	}
}

// With -e only the chosen calls are trapped, whole and exactly.
func TestLabChosenCalls(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	n := labtest.Count(2000)
	c, pid := caller(t, g, "openat", n, "-threads 2")
	tr := start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid), "-e", "openat,uname")
	g.MustExec(t.Context(), "touch /tmp/go")
	c.Wait(t.Context())
	out := tr.Lossless()
	if got := count(out, `(openat\(AT_FDCWD, "/etc/hostname", O_RDONLY|<\.\.\. openat resumed>)\) = \d+$`); got != n {
		t.Errorf("%d lines, want %d", got, n)
	}
	if other := count(out, `^workload\[\d+\] (<\.\.\. )?(close|futex|access|nanosleep)`); other != 0 {
		t.Errorf("%d lines of calls that were not chosen", other)
	}
}

// A process that starts after the tracer is found by its name.
func TestLabByName(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	tr := start(t, "-domain", g.Name(), "-comm", "cat")
	out, status := g.Exec(t.Context(), "cat /etc/hostname; cat /no/such/file")
	if status != 1 {
		t.Fatalf("status %d: %s", status, out)
	}
	tr.Stop()
	trace := tr.Lossless()
	for want, n := range map[string]int{
		`^cat\[\d+\] open(at)?\(.*"/etc/hostname", O_RDONLY.*\) = \d+$`:                                     1,
		`^cat\[\d+\] open(at)?\(.*"/no/such/file", O_RDONLY.*\) = -1 ENOENT \(No such file or directory\)$`: 1,
		`^cat\[\d+\] \+\+\+ exited with 0 \+\+\+$`:                                                          1,
		`^cat\[\d+\] \+\+\+ exited with 1 \+\+\+$`:                                                          1,
	} {
		if got := count(trace, want); got != n {
			t.Errorf("%d lines %s, want %d", got, want, n)
		}
	}
	if other := count(trace, `^[^\[]+\[`) - count(trace, `^cat\[`); other != 0 {
		t.Errorf("%d lines of others", other)
	}
}

func TestLabSummaryAndJSON(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	n := labtest.Count(1000)
	c, pid := caller(t, g, "openat-enoent", n, "")
	tr := start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid), "-c")
	g.MustExec(t.Context(), "touch /tmp/go")
	c.Wait(t.Context())
	if out := tr.Lossless(); count(out, fmt.Sprintf(`^ *\d+\.\d\d +\d+\.\d{6} +\d+ +%d +%d openat$`, n, n)) != 1 {
		t.Errorf("summary:\n%s", out)
	}

	c, pid = caller(t, g, "openat-enoent", n, "")
	tr = start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid), "-json")
	g.MustExec(t.Context(), "touch /tmp/go")
	c.Wait(t.Context())
	got := 0
	for d := json.NewDecoder(strings.NewReader(tr.Lossless())); d.More(); {
		var r strace.Record
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.PID != pid {
			t.Errorf("process %d, want %d", r.PID, pid)
		}
		if r.Name == "openat" && r.Error == "ENOENT" && len(r.Args) > 1 && r.Args[1] == `"/no/such/file"` {
			got++
		}
	}
	if got != n {
		t.Errorf("%d objects, want %d", got, n)
	}
}

// Ended in mid-trace, the tracer leaves a guest that works on.
func TestLabInterrupted(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	busy := g.Start(t.Context(), "exec workload busy -kinds read,write")
	tr := start(t, "-domain", g.Name())
	for end := time.Now().Add(patience); count(tr.Out.String(), `^workload\[`) < 100; {
		time.Sleep(50 * time.Millisecond)
		if time.Now().After(end) {
			t.Fatal("too few lines")
		}
	}
	tr.Stop()
	tr.Lossless()
	g.MustExec(t.Context(), fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(t.Context()); status != 0 {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestLabRefused(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-domain", "no-such-guest"}, "no domain is named"},
		{[]string{"-domain", "32000"}, "no such domain"},
		{[]string{"-domain", g.Name(), "-pid", "4000000"}, "no such process"},
		{[]string{"-domain", g.Name(), "-pid", "2"}, "kernel thread"},
		{[]string{"-domain", g.Name(), "-e", "frobnicate"}, "no such system call"},
	} {
		refused(t, tt.args, tt.want)
	}

	c, pid := caller(t, g, "getppid", 1, "-threads 2")
	tids := g.MustExec(t.Context(), fmt.Sprintf("echo; ls /proc/%d/task", pid))
	for _, tid := range strings.Fields(tids) {
		if tid != strconv.Itoa(pid) && regexp.MustCompile(`^\d+$`).MatchString(tid) {
			refused(t, []string{"-domain", g.Name(), "-pid", tid}, fmt.Sprintf("use -pid %d", pid))
			break
		}
	}
	tr := start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid))
	refused(t, []string{"-domain", g.Name()}, "another monitor is attached")
	g.MustExec(t.Context(), "touch /tmp/go")
	c.Wait(t.Context())
	tr.Lossless()
}

// A guest whose kernel has not begun has no system calls yet.
func TestLabBooting(t *testing.T) {
	g := labtest.CreatePaused(t, guest.Spec{})
	refused(t, []string{"-domain", g.Name()}, "still booting")
}

// Guests that Xen cannot monitor are refused before anything is changed.
func TestLabKindsOfGuest(t *testing.T) {
	g := labtest.CreatePaused(t, guest.Spec{Name: "t-pv", PV: true, MemoryMiB: 256})
	refused(t, []string{"-domain", g.Name()}, "PV guests cannot be monitored")
	refused(t, []string{"-domain", "0"}, "cannot monitor itself")
}

// refused checks that the program ends with one line that says why.
func refused(t *testing.T, args []string, want string) {
	t.Helper()
	var out, msg bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if status := run(ctx, args, &out, &msg); status != 1 {
		t.Errorf("%q: status %d, want 1", args, status)
	}
	if s := msg.String(); !strings.HasPrefix(s, "syscalltrace: ") || !strings.Contains(s, want) || strings.Count(s, "\n") != 1 || out.Len() != 0 {
		t.Errorf("%q: message %q, output %q; want %q", args, s, out.String(), want)
	}
}

// Each call is one slice of its thread's track, and a trace that is cut short is
// whole.
func TestLabPerfetto(t *testing.T) {
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	n := labtest.Count(1000)
	c, pid := caller(t, g, "openat-enoent", n, "-threads 2")
	tr := start(t, "-domain", g.Name(), "-pid", strconv.Itoa(pid), "-perfetto")
	g.MustExec(t.Context(), "touch /tmp/go")
	c.Wait(t.Context())
	threads, err := tracetest.Check(strings.NewReader(tr.Lossless()))
	if err != nil {
		t.Fatal(err)
	}
	got, tracks := 0, 0
	for tid, th := range threads {
		if th.PID != pid || th.Process != "workload" {
			t.Errorf("thread %d of process %d (%s)", tid, th.PID, th.Process)
		}
		before := got
		for _, e := range th.Events {
			if e.Phase == "X" && e.Name == "openat" && strings.Contains(string(e.Args), `"error":"ENOENT"`) && strings.Contains(string(e.Args), "/no/such/file") {
				got++
			}
		}
		if got > before {
			tracks++
		}
	}
	if got != n || tracks != 2 {
		t.Errorf("%d slices on %d tracks, want %d on 2", got, tracks, n)
	}

	busy := g.Start(t.Context(), "exec workload busy -kinds read,write")
	tr = start(t, "-domain", g.Name(), "-comm", "workload", "-perfetto")
	for end := time.Now().Add(patience); strings.Count(tr.Out.String(), "\n") < 100; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("too few slices")
		}
	}
	tr.Stop()
	if threads, err := tracetest.Check(strings.NewReader(tr.Lossless())); err != nil || len(threads) == 0 {
		t.Errorf("%d threads, %v", len(threads), err)
	}
	g.MustExec(t.Context(), fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(t.Context()); status != 0 {
		t.Errorf("status %d: %s", status, out)
	}
}
