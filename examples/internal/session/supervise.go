package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/xen"
)

// supervisedVar tells a program that another one of its kind restarts it: "first",
// or "again" after a death.
const supervisedVar = "GOVMI_SUPERVISED"

// Supervised says whether the program runs under a [Supervisor], and whether it
// has been killed before.
func Supervised() (yes, again bool) {
	v := os.Getenv(supervisedVar)
	return v != "", v == "again"
}

// Supervisor runs a program that monitors a domain as another process. If that is
// killed, or crashes, the domain is recovered and the process started again.
type Supervisor struct {
	Program string // its name, for messages
	Domain  string // that it monitors
	Journal string // the file that it keeps, empty for the default
	Args    []string
	Stdout  io.Writer
	Stderr  io.Writer
}

const (
	// deaths in deathTime are too many: what kills it will go on.
	deaths    = 5
	deathTime = time.Minute
)

// Run returns when the program has ended by itself, with its exit status, or
// after ctx ended, which ends the program as SIGTERM does.
func (s *Supervisor) Run(ctx context.Context) int {
	var died []time.Time
	for how := "first"; ; how = "again" {
		status, err := s.runOnce(ctx, how)
		if err == nil {
			return status
		}
		r, rerr := s.recover()
		if rerr != nil {
			return s.fail(fmt.Errorf("the monitor of domain %s ended by %w; it could not be recovered: %w", s.Domain, err, rerr))
		}
		fmt.Fprintf(s.Stderr, "%s: the monitor of domain %s ended by %v; recovered: %d bytes, %d pages, %d views\n",
			s.Program, s.Domain, err, len(r.Restored), len(r.Frames), r.Views)
		if ctx.Err() != nil {
			return 0
		}
		died = append(died, time.Now())
		if n := len(died); n >= deaths && died[n-1].Sub(died[n-deaths]) < deathTime {
			return s.fail(fmt.Errorf("%d deaths within %v: not started again", deaths, deathTime))
		}
	}
}

func (s *Supervisor) fail(err error) int {
	fmt.Fprintf(s.Stderr, "%s: %s\n", s.Program, OneLine(err))
	return 1
}

// runOnce returns the exit status of a program that ended by itself: 0 or 1. The
// error says what else ended it.
func (s *Supervisor) runOnce(ctx context.Context, how string) (int, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", s.Args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), supervisedVar+"="+how)
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return s.fail(err), nil // it has not begun
	}
	switch status := cmd.ProcessState.ExitCode(); status {
	case 0, 1:
		return status, nil
	}
	return 0, errors.New(cmd.ProcessState.String())
}

// recover brings the domain back. It waits for the kernel to release what the dead
// process held.
func (s *Supervisor) recover() (r *journal.Report, err error) {
	h, err := xen.Open(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	d, err := h.LookupDomain(s.Domain)
	if err != nil {
		return nil, err
	}
	return Recover(d, &journal.RecoverOptions{Path: s.Journal})
}
