package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/govmi/govmi/vmi/linux/strace"
	"github.com/govmi/govmi/xen"
)

// flushInterval is how long a line may wait for its writing.
const flushInterval = 50 * time.Millisecond

// lookInterval is how often the traced process is looked for.
const lookInterval = time.Second

// run is the program: it traces until ctx ends or the traced process does, and
// returns the exit status: 2 for a wrong command line, 1 for another error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runOn(ctx, nil, args, stdout, stderr)
}

// runOn is run on a hypervisor opened with x.
func runOn(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := trace(ctx, x, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "syscalltrace: %s\n", oneLine(err))
		return 1
	}
	return 0
}

// oneLine is err's text, which may be that of several errors, in one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func trace(ctx context.Context, x *xen.Options, o options, stdout, stderr io.Writer) (err error) {
	out := stdout
	if o.file != "" {
		f, err := os.Create(o.file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	s, err := attach(x, o.domain)
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWriter(ctx, out)
	defer w.close()
	p := strace.NewPrinter(w, &strace.PrinterOptions{JSON: o.json, Quiet: o.summary, Column: o.column})
	g := newGuest(s.kernel)
	t, err := prepare(g, o, p)
	if err != nil {
		return err
	}

	t.ended = cancel
	served := make(chan error, 1)
	go func() { served <- guarded(func() error { return s.loop.Run(ctx) }) }()
	stopServing := func() error { cancel(); return <-served }

	n := 0
	err = s.paused(func() (err error) {
		n, err = t.insert(s.engine, g, s.vcpus)
		return err
	})
	if err != nil {
		return errors.Join(err, unlessCanceled(stopServing()))
	}
	fmt.Fprintf(stderr, "syscalltrace: tracing %s of domain %s (%d), Linux %s; %d breakpoints, no altp2m in use: patched byte, emulated\n",
		t.what, s.name, s.dom.ID(), s.kernel.Release(), n)

	gone := func() bool { return false }
	if o.pid != 0 {
		gone = func() bool { return processGone(s.kernel, int32(o.pid)) }
	}
	err = write(p, served, cancel, gone)
	// The guest comes first: what follows may wait for whoever reads it.
	err = errors.Join(err, s.Close())
	p.Detach()
	if ferr := p.Flush(); err == nil {
		err = ferr
	}
	if o.summary {
		err = errors.Join(err, p.Summary(w))
	}
	c := p.Counts()
	why := ""
	if t.lost > 0 {
		why = fmt.Sprintf(" (the last because of: %s)", oneLine(t.why))
	}
	fmt.Fprintf(stderr, "syscalltrace: %d events, %d calls, %d lines, %d lost%s\n", s.engine.Stats().Hits, c.Calls, c.Lines, t.lost, why)
	return err
}

// write writes out what the printer has until serving events ends, and
// returns why it ended, nil if that was to be.
//
// Tracing also ends when gone says twice in a row that the process is: it may
// have ended while the breakpoints were on their way.
func write(p *strace.Printer, served <-chan error, cancel func(), gone func() bool) (failed error) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	missed := 0
	for {
		select {
		case err := <-served:
			if failed != nil {
				return failed
			}
			return unlessCanceled(err)
		case <-look.C:
			if missed++; !gone() {
				missed = 0
			}
			if missed == 2 {
				cancel()
			}
		case <-tick.C:
			if err := p.Flush(); err != nil && failed == nil {
				failed = fmt.Errorf("write the trace: %w", err)
				cancel()
			}
		}
	}
}

// unlessCanceled is the error of an event loop that may have been asked to end.
func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// guarded turns a panic of f into an error, so that the guest is restored.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}
