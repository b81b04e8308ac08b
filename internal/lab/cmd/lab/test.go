package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/govmi/govmi/internal/lab"
)

// execTest is the program for `go test -exec`: it runs a test binary in the lab that $GOVMI_LAB_SOCKET names, or in one of its own.
func execTest(ctx context.Context, args []string) (status int, err error) {
	fs := flag.NewFlagSet("lab exec", flag.ContinueOnError)
	var b bootFlags
	b.register(fs)
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	b.boot.Yardstick = true
	if fs.NArg() == 0 {
		return 2, errors.New("no test binary; lab exec is for go test -exec")
	}
	dir, err := os.Getwd() // the package's, says the go command
	if err != nil {
		return exitFailed, err
	}
	t := &lab.TestBinary{
		Path: fs.Arg(0), Args: fs.Args()[1:], Dir: dir, Env: lab.TestEnv(), Stdout: os.Stdout, Stderr: os.Stderr,
		Live: slices.Contains(fs.Args(), "-test.v=true"),
	}
	if t.Path, err = filepath.Abs(t.Path); err != nil {
		return exitFailed, err
	}
	r, err := b.runner(ctx)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	machine := os.Getenv(lab.MachineVar)
	if machine == "" {
		status, err = lab.RunTest(ctx, r, t)
	} else {
		status, err = runOnce(ctx, r, t, machine)
	}
	if err != nil {
		return exitFailed, err
	}
	return status, nil
}

// runOnce runs a test binary unless it has passed before.
func runOnce(ctx context.Context, r lab.Runner, t *lab.TestBinary, machine string) (status int, err error) {
	rs, err := results(machine)
	if err != nil {
		return exitFailed, err
	}
	status, cached, err := rs.Test(ctx, r, t)
	report := os.Getenv(lab.ReportVar)
	if err != nil || !cached || report == "" {
		return status, err
	}
	f, err := os.OpenFile(report, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return exitFailed, err
	}
	_, err = fmt.Fprintln(f, filepath.Base(t.Dir))
	return status, errors.Join(err, f.Close())
}

// goTest runs `go test` with its arguments, whose test binaries with build tag lab run in one machine one after the other. With -cached it
// boots only if one of them has not passed in such a machine before.
func goTest(ctx context.Context, args []string) (status int, err error) {
	fs := flag.NewFlagSet("lab test", flag.ContinueOnError)
	var b bootFlags
	b.register(fs)
	cached := fs.Bool("cached", false, "do not run again what has passed in such a machine; it is named at the end")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	b.boot.Yardstick = true
	if fs.NArg() == 0 {
		return 2, errors.New("no packages; usage: lab test [flags] -- [go test's flags] packages")
	}
	self, err := os.Executable()
	if err != nil {
		return exitFailed, err
	}
	var r lab.Runner
	var env []string
	if *cached {
		m, merr := b.late(ctx)
		if merr != nil {
			return exitFailed, merr
		}
		r, env = m, []string{lab.MachineVar + "=" + m.digest, lab.ReportVar + "=" + m.report}
	} else if r, err = b.start(ctx); err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	socket, stop, err := serveAt(ctx, "", r)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	// One binary at a time, as there is one machine; the go command does so for
	// benchmarks, and builds all before. make check has vetted them.
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-tags", "lab", "-count=1", "-vet=off", "-bench=^$", "-exec", fmt.Sprintf("'%s' exec", self)}, fs.Args()...)...)
	cmd.Env = slices.Concat(os.Environ(), env, []string{lab.SocketVar + "=" + socket, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"})
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// go test passes it on to the runner, which ends the job.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return exitFailed, err
	}
	return 0, nil
}
