package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

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

	spec := guest.Spec{Name: "demo", KASLR: true, AltP2M: true, Run: neighbours}
	say("starting a Linux guest with %d busy processes, its kernel at a random address", len(neighbours))
	g, err := guest.Start(ctx, spec)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, g.Destroy(context.WithoutCancel(ctx)))
	}()
	if err := g.Run(ctx, "mkfifo /tmp/demo.begin /tmp/demo.end"); err != nil {
		return err
	}
	bash, err := g.Start(ctx, story)
	if err != nil {
		return err
	}
	pid := bash.PID()
	before, err := g.AtPipe(ctx, pid)
	if err != nil {
		return err
	}
	say("the bash to trace is process %d of the guest", pid)
	t, err := startTracer(ctx, program, spec.Name, pid, out)
	if err != nil {
		return err
	}
	if err := g.Run(ctx, "echo go >/tmp/demo.begin"); err != nil {
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
	after, err := g.AtPipe(ctx, pid)
	if err != nil {
		return err
	}
	if err := g.Run(ctx, "echo go >/tmp/demo.end"); err != nil {
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
		{"read calls (its kernel's count)", after.Reads - before.Reads, got.calls["read"]},
		{"write calls (its kernel's count)", after.Writes - before.Writes, got.calls["write"]},
		{"children forked (its own count)", children, got.calls["clone"] + got.calls["clone3"] + got.calls["vfork"]},
		{"programs executed by it", 1, got.all["execve"]},
		{"exit status", status, got.exit},
		{"lines of other processes", 0, len(got.others)},
	})
}
