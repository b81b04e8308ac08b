package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi/linux/strace"
	"github.com/govmi/govmi/xen"
)

// run is the program: it traces until ctx ends or the traced process does, and
// returns the exit status: 2 for a wrong command line, 1 for another error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runOn(ctx, nil, args, stdout, stderr)
}

// runOn is run on a hypervisor opened with x.
func runOn(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return session.Status("syscalltrace", err, stderr)
	}
	if supervised, _ := session.Supervised(); o.restart && !supervised {
		s := session.Supervisor{
			Program: "syscalltrace", Domain: o.domain, Journal: o.journal, Args: args, Stdout: stdout, Stderr: stderr,
		}
		return s.Run(ctx)
	}
	err = session.With(x, o.domain, o.file, stdout, func(s *session.Session, out io.Writer) error {
		return trace(ctx, s, o, out, stderr)
	})
	return session.Status("syscalltrace", err, stderr)
}

func trace(ctx context.Context, s *session.Session, o options, out, stderr io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := session.NewWriter(ctx, out)
	defer w.Close()
	lines := strace.NewPrinter(w, &strace.PrinterOptions{JSON: o.json, Quiet: o.summary, Column: o.column})
	p := printer(lines)
	if o.perfetto {
		p = newPerfetto(w, time.Now)
	}
	g := newGuest(s.Kernel)
	t, err := prepare(g, o, p)
	if err != nil {
		return err
	}

	if o.follow {
		t.pid = 0 // the scope knows
	}
	s.JournalPath = o.journal
	scope, err := s.Scope(cr3filter.Process{PID: int32(o.pid), Comm: o.comm}, &cr3filter.ScopeOptions{
		Follow: o.follow, Mechanisms: o.mechanisms, NoViews: o.noViews,
	})
	if err != nil {
		return err
	}
	t.ended = cancel
	served := s.Serve(ctx)
	stopServing := func() error { cancel(); return <-served }

	n, err := t.insert(scope, g, s.VCPUs)
	if err == nil {
		err = scope.Start()
	}
	if err != nil {
		return errors.Join(err, session.UnlessCanceled(stopServing()))
	}
	fmt.Fprintf(stderr, "syscalltrace: tracing %s of domain %s (%d), Linux %s; %d breakpoints; %s\n",
		t.what, s.Name, s.Dom.ID(), s.Kernel.Release(), n, how(scope))

	var gone func() bool
	switch {
	case o.follow:
		gone = func() bool { return len(scope.Processes()) == 0 }
	case o.pid != 0:
		gone = func() bool { return processGone(s.Kernel, int32(o.pid)) }
	}
	err = session.Flushing(served, cancel, p.Flush, gone)
	// The guest comes first: what follows may wait for whoever reads it.
	err = errors.Join(err, s.Close())
	p.Detach()
	if ferr := p.Flush(); err == nil {
		err = ferr
	}
	if o.summary {
		err = errors.Join(err, lines.Summary(w))
	}
	stats, serr := scope.Stats()
	err = errors.Join(err, serr)
	c := p.Counts()
	why := ""
	if t.lost > 0 {
		why = fmt.Sprintf(" (the last because of: %s)", session.OneLine(t.why))
	}
	fmt.Fprintf(stderr, "syscalltrace: %d events, %d calls, %d lines, %d lost%s\n",
		stats.Breakpoints.Hits+stats.CR3.Events, c.Calls, c.Lines, t.lost+int(stats.Unknown), why)
	fmt.Fprintf(stderr, "syscalltrace: breakpoints: %d hits of interest, %d of other processes, %d to follow the process; CR3 writes: %d events, %d dropped by Xen\n",
		stats.Hits, stats.Foreign, stats.Hooks, stats.CR3.Events, stats.CR3.Dropped)
	if stats.Unfollowed > 0 {
		fmt.Fprintf(stderr, "syscalltrace: %d processes were not traced for want of room\n", stats.Unfollowed)
	}
	return err
}

// how says in words what keeps the other processes out.
func how(s *cr3filter.Scope) string {
	list := ""
	if s.TargetList() {
		list = ", CR3-target list"
	}
	return fmt.Sprintf("%v%s; %s", s.Mechanism(), list, s.Placement())
}
