package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// trace is what the tracer printed of the bash.
type trace struct {
	lines     int
	calls     map[string]int // completed calls, up to the second pipe
	all       map[string]int // to the end
	others    []string       // lines that are not the bash's
	exit      int            // the last exit_group's argument, -1 without one
	secondEnd bool
}

// line matches "comm[tid] call(...)" and "comm[tid] <... call resumed>...".
var line = regexp.MustCompile(`^(\S+)\[(\d+)\] (?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed>)`)

// ending matches "comm[tid] +++ exited with 7 +++".
var ending = regexp.MustCompile(`^\S+\[\d+\] \+\+\+ .* \+\+\+$`)

var exitStatus = regexp.MustCompile(`exit_group\((\d{1,3})\)`)

func newTrace() *trace { return &trace{calls: map[string]int{}, all: map[string]int{}, exit: -1} }

// add counts one line of the trace of process pid.
func (t *trace) add(text string, pid int) {
	t.lines++
	if ending.MatchString(text) {
		return // not a call
	}
	m := line.FindStringSubmatch(text)
	if m == nil || m[2] != strconv.Itoa(pid) {
		t.others = append(t.others, text)
		return
	}
	call := m[3]
	if strings.Contains(text, "/tmp/demo.end") {
		t.secondEnd = true
	}
	if strings.HasSuffix(text, "<unfinished ...>") {
		return // counted where it is resumed
	}
	if !t.secondEnd {
		t.calls[call]++
	}
	t.all[call]++
	if call == "exit_group" {
		if m := exitStatus.FindStringSubmatch(text); m != nil {
			t.exit, _ = strconv.Atoi(m[1]) // digits
		}
	}
}

// tracer is a running examples/syscalltrace.
type tracer struct {
	cmd    *exec.Cmd
	trace  *trace
	stderr *tail
	done   chan error
}

// startTracer traces process pid of the domain, copying its lines to out, and
// returns when the breakpoints are in place.
func startTracer(ctx context.Context, program, domain string, pid int, out io.Writer) (*tracer, error) {
	cmd := exec.CommandContext(ctx, program, "-domain", domain, "-pid", strconv.Itoa(pid))
	// The tracer restores the guest before it ends.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t := &tracer{cmd: cmd, trace: newTrace(), stderr: newTail(out), done: make(chan error, 1)}
	cmd.Stderr = t.stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the tracer: %w", err)
	}
	go func() {
		s := bufio.NewScanner(lines)
		for s.Scan() {
			fmt.Fprintln(out, s.Text())
			t.trace.add(s.Text(), pid)
		}
		t.done <- cmd.Wait()
	}()
	select {
	case <-t.stderr.tracing:
		return t, nil
	case err := <-t.done:
		return nil, fmt.Errorf("the tracer ended before it began: %w", err)
	}
}

// wait returns the trace when the tracer has ended by itself.
func (t *tracer) wait(ctx context.Context) (*trace, error) {
	select {
	case err := <-t.done:
		if err != nil {
			return nil, fmt.Errorf("the tracer failed: %w", err)
		}
		return t.trace, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// tail passes the tracer's messages on and notices the one that says that
// tracing has begun.
type tail struct {
	out     io.Writer
	seen    []byte
	tracing chan struct{}
	begun   bool
}

func newTail(out io.Writer) *tail { return &tail{out: out, tracing: make(chan struct{})} }

func (t *tail) Write(p []byte) (int, error) {
	if !t.begun {
		t.seen = append(t.seen, p...)
		if strings.Contains(string(t.seen), "tracing") {
			t.begun = true
			close(t.tracing)
		}
	}
	return t.out.Write(p)
}
