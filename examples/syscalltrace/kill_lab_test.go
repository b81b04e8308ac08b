//go:build lab

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// mainVar makes the test binary the program itself.
const mainVar = "GOVMI_SYSCALLTRACE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

// Signals in mid-trace end the program with status 0 and leave the guest's
// kernel as it was and its processes at work, time and again.
func TestLabSignals(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	busy := g.Start(ctx, "exec workload busy -kinds read,write,getppid -spin 10000")
	for i := range labtest.Count(40) {
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[i%2]
		var msg bytes.Buffer
		cmd := exec.Command("/proc/self/exe", "-domain", g.Name(), "-comm", "workload")
		cmd.Env = append(os.Environ(), mainVar+"=1")
		cmd.Stderr = &msg
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var trace bytes.Buffer
		buf := make([]byte, 4096)
		for signalled := false; ; {
			n, err := out.Read(buf)
			trace.Write(buf[:n])
			if !signalled && bytes.Count(trace.Bytes(), []byte("\n")) > 20 {
				signalled = true
				if err := cmd.Process.Signal(sig); err != nil {
					t.Error(err)
				}
			}
			if err != nil {
				break
			}
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(msg.String(), " 0 lost\n") {
			t.Errorf("%v number %d: %v, messages %q", sig, i, err, msg.String())
		}
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(ctx); status != 0 {
		t.Errorf("the guest's process ended with status %d: %s", status, out)
	}
}

// With -restart a tracer that is killed comes again, after the guest was brought
// back, and its trace goes on in the same file.
func TestLabRestart(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	busy := g.Start(ctx, "exec workload busy -kinds getppid -spin 10000")
	file := filepath.Join(t.TempDir(), "trace")
	var msg sessiontest.Buffer
	cmd := exec.Command("/proc/self/exe", "-domain", g.Name(), "-comm", "workload", "-e", "getppid", "-restart", "-o", file)
	cmd.Env = append(os.Environ(), mainVar+"=1")
	cmd.Stderr = &msg
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const kills = 2
	for i := range kills + 1 {
		// Each of them traces.
		before := lines(file)
		for end := time.Now().Add(patience); lines(file) < before+20 || strings.Count(msg.String(), "tracing processes") != i+1; {
			if time.Now().After(end) {
				t.Fatalf("tracer %d writes no lines: %s", i, msg.String())
			}
			time.Sleep(20 * time.Millisecond)
		}
		if i == kills {
			break
		}
		if err := syscall.Kill(childOf(t, cmd.Process.Pid), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.Count(msg.String(), "signal: killed; recovered: ") != kills {
		t.Errorf("%v; messages %s", err, msg.String())
	}
	t.Logf("%d lines; %s", lines(file), msg.String())
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(ctx); status != 0 {
		t.Errorf("the guest's process ended with status %d: %s", status, out)
	}
}

func lines(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte("\n"))
}

// childOf returns the process that the process has started.
func childOf(t *testing.T, parent int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("process %d has no child", parent)
	return 0
}
