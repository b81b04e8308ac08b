package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// run is the program: it watches until ctx ends or the session does, and returns
// the exit status: 2 for a wrong command line, 1 for another error. x may be nil.
func run(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = session.With(x, o.domain, o.file, stdout, func(s *session.Session, out io.Writer) error {
			return watch(ctx, s, o, out, stderr)
		})
	}
	return session.Status("bashspy", err, stderr)
}

func watch(ctx context.Context, s *session.Session, o options, out, stderr io.Writer) (err error) {
	sh, err := find(s.Kernel, o)
	if err != nil {
		return err
	}
	functions, _, err := kfunc.Find(s.Kernel, []string{readFunc, writeFunc, callFunc}, 3)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := session.NewWriter(ctx, out)
	defer w.Close()
	sp := &spy{kernel: s.Kernel, tty: sh.tty, now: time.Now, text: &transcript{json: o.json}, early: map[vmi.VirtAddr]bool{}}
	if sp.before, err = newSavedCalls(s.Kernel); err != nil {
		return err
	}

	scope, err := s.Scope(cr3filter.Process{PID: sh.pid}, &cr3filter.ScopeOptions{Follow: true, NoViews: o.noViews})
	if err != nil {
		return err
	}
	served := s.Serve(ctx)
	for _, f := range functions {
		if err = sp.insert(scope, f); err != nil {
			break
		}
	}
	if err == nil {
		err = scope.Start()
	}
	if err != nil {
		cancel()
		return errors.Join(err, session.UnlessCanceled(<-served))
	}
	fmt.Fprintf(stderr, "bashspy: watching terminal %s of process %d of domain %s (%d), Linux %s; %v; %s\n",
		sh.ttyName, sh.pid, s.Name, s.Dom.ID(), s.Kernel.Release(), scope.Mechanism(), scope.Placement())
	flush := func() error {
		b := sp.text.take(time.Now())
		if len(b) == 0 {
			return nil
		}
		_, err := w.Write(b)
		return err
	}
	err = session.Flushing(served, cancel, flush, func() bool { return len(scope.Processes()) == 0 })
	// The guest comes first: what follows may wait for whoever reads it.
	err = errors.Join(err, s.Close())
	sp.text.finish()
	if ferr := flush(); err == nil {
		err = ferr
	}
	stats, serr := scope.Stats()
	err = errors.Join(err, serr)
	why := ""
	if sp.lost > 0 {
		why = fmt.Sprintf(" (the last because of: %s)", session.OneLine(sp.why))
	}
	fmt.Fprintf(stderr, "bashspy: %d bytes typed, %d printed, in %d reads and writes; %d lost%s\n",
		sp.text.typedBytes, sp.text.printedBytes, sp.text.chunks, sp.lost+sp.calls.Dropped+sp.calls.Missed+int(stats.Unknown), why)
	return err
}
