package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
)

// story is what the traced bash runs.
//
//go:embed story.sh
var story string

// neighbours are busy beside the bash; none of their calls may be in the trace.
var neighbours = []string{
	"workload busy",
	"while :; do busybox cat /etc/hostname; done >/dev/null",
}

func run(ctx context.Context, program string, out io.Writer) (err error) {
	say := func(format string, args ...any) { fmt.Fprintf(out, "demo: "+format+"\n", args...) }

	spec := guest.Spec{Name: "demo", KASLR: true, Run: neighbours}
	say("starting a Linux guest with %d busy processes, its kernel at a random address", len(neighbours))
	g, err := guest.Start(ctx, spec)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, g.Destroy(context.WithoutCancel(ctx)))
	}()
	if err := release(ctx, g, "mkfifo /tmp/demo.begin /tmp/demo.end"); err != nil {
		return err
	}
	bash, err := g.Start(ctx, story)
	if err != nil {
		return err
	}
	pid := bash.PID()
	before, err := atPipe(ctx, g, pid)
	if err != nil {
		return err
	}
	say("the bash to trace is process %d of the guest", pid)
	t, err := startTracer(ctx, program, spec.Name, pid, out)
	if err != nil {
		return err
	}
	if err := release(ctx, g, "echo go >/tmp/demo.begin"); err != nil {
		return err
	}
	m, err := bash.WaitLine(ctx, regexp.MustCompile(`demo: children=(\d+)\n`))
	if err != nil {
		return err
	}
	children, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	after, err := atPipe(ctx, g, pid)
	if err != nil {
		return err
	}
	if err := release(ctx, g, "echo go >/tmp/demo.end"); err != nil {
		return err
	}
	_, status, err := bash.Wait(ctx)
	if err != nil {
		return err
	}
	got, err := t.wait(ctx)
	if err != nil {
		return err
	}
	say("%d lines printed; the guest's own word beside them:", got.lines)
	return compare(out, []row{
		{"read calls (its kernel's count)", after.reads - before.reads, got.calls["read"]},
		{"write calls (its kernel's count)", after.writes - before.writes, got.calls["write"]},
		{"children forked (its own count)", children, got.calls["clone"] + got.calls["clone3"] + got.calls["vfork"]},
		{"programs executed by it", 1, got.all["execve"]},
		{"exit status", status, got.exit},
		{"lines of other processes", 0, len(got.others)},
	})
}

// release runs a command in the guest that must succeed.
func release(ctx context.Context, g *guest.Guest, command string) error {
	out, status, err := g.Exec(ctx, command)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("guest: %s: status %d: %s", command, status, out)
	}
	return nil
}

// counts are the calls that the guest's kernel counted for a process.
type counts struct{ reads, writes int }

var (
	opening   = regexp.MustCompile(`(?m)^257 `) // in openat
	readsIn   = regexp.MustCompile(`(?m)^syscr: (\d+)`)
	writesIn  = regexp.MustCompile(`(?m)^syscw: (\d+)`)
	pipeTries = 200
)

// atPipe waits until the process is blocked in opening a pipe and returns what
// its kernel has counted by then: for the thread, because the count of the
// process takes in that of its children.
func atPipe(ctx context.Context, g *guest.Guest, pid int) (counts, error) {
	var out string
	for range pipeTries {
		var err error
		out, _, err = g.Exec(ctx, fmt.Sprintf("cat /proc/%d/syscall /proc/%d/task/%d/io", pid, pid, pid))
		if err != nil {
			return counts{}, err
		}
		r, w := readsIn.FindStringSubmatch(out), writesIn.FindStringSubmatch(out)
		if opening.MatchString(out) && r != nil && w != nil {
			reads, rerr := strconv.Atoi(r[1])
			writes, werr := strconv.Atoi(w[1])
			return counts{reads, writes}, errors.Join(rerr, werr)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return counts{}, context.Cause(ctx)
		}
	}
	return counts{}, fmt.Errorf("process %d did not come to its pipe; the guest says:\n%s", pid, strings.TrimSpace(out))
}
