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
)

// flushInterval is how long a line may wait for its writing.
const flushInterval = 50 * time.Millisecond

// run is the program: it traces until ctx ends or the traced process does, and
// returns the exit status: 2 for a wrong command line, 1 for another error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := trace(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "syscalltrace: %s\n", oneLine(err))
		return 1
	}
	return 0
}

// oneLine is err's text, which may be that of several errors, in one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func trace(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	out := stdout
	if o.file != "" {
		f, err := os.Create(o.file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	s, err := attach(o.domain)
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return err
	}
	p := strace.NewPrinter(out, &strace.PrinterOptions{JSON: o.json, Quiet: o.summary, Column: o.column})
	g := newGuest(s.kernel)
	t, err := prepare(g, o, p)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.ended = cancel
	served := make(chan error, 1)
	go func() { served <- guarded(func() error { return s.loop.Run(ctx) }) }()
	stopServing := func() error { cancel(); return <-served }

	n, err := t.insert(s.engine, g)
	if err != nil {
		return errors.Join(err, unlessCanceled(stopServing()))
	}
	fmt.Fprintf(stderr, "syscalltrace: tracing %s of domain %s (%d), Linux %s; %d breakpoints, no altp2m in use: patched byte, emulated\n",
		t.what, s.name, s.dom.ID(), s.kernel.Release(), n)

	err = write(p, served, cancel)
	p.Detach()
	if ferr := p.Flush(); err == nil {
		err = ferr
	}
	if o.summary {
		err = errors.Join(err, p.Summary(out))
	}
	c := p.Counts()
	fmt.Fprintf(stderr, "syscalltrace: %d events, %d calls, %d lines, %d lost\n", s.engine.Stats().Hits, c.Calls, c.Lines, t.lost)
	return err
}

// write writes out what the printer has until serving events ends, and
// returns why it ended, nil if that was to be.
func write(p *strace.Printer, served <-chan error, cancel func()) (failed error) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-served:
			if failed != nil {
				return failed
			}
			return unlessCanceled(err)
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
