package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// run is the program: it traces until ctx ends or the traced process does, and
// returns the exit status: 2 for a wrong command line, 1 for another error. x may
// be nil.
func run(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = session.With(x, o.domain, o.file, stdout, func(s *session.Session, out io.Writer) error {
			return trace(ctx, s, o, out, stderr)
		})
	}
	return session.Status("funcgraph", err, stderr)
}

func trace(ctx context.Context, s *session.Session, o options, out, stderr io.Writer) (err error) {
	functions, refused, err := kfunc.Find(s.Kernel, o.functions, o.limit)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := session.NewWriter(ctx, out)
	defer w.Close()
	g := newGraph(s.Kernel, functions, o.form, w, time.Now)

	process := cr3filter.Process{PID: int32(o.pid), Comm: o.comm}
	scope, err := s.Scope(process, &cr3filter.ScopeOptions{Follow: o.follow, NoViews: o.noViews})
	if err != nil {
		return err
	}
	served := s.Serve(ctx)
	points, watched := 0, 0
	for i, f := range functions {
		n, ierr := f.Insert(scope, func(r *xen.Request, t linux.Task, exit *breakpoint.Exit) { g.hit(i, r, t, exit) })
		if err = ierr; err != nil {
			break
		}
		points += n
		watched++
	}
	if err == nil && watched == 0 {
		err = fmt.Errorf("-func: none of the functions that match can be watched; the last: %s: %w", refused[len(refused)-1].Name, refused[len(refused)-1].Why)
	}
	if err == nil {
		err = scope.Start()
	}
	if err != nil {
		cancel()
		return errors.Join(err, session.UnlessCanceled(<-served))
	}
	fmt.Fprintf(stderr, "funcgraph: tracing %v of domain %s (%d), Linux %s; %d functions, %d breakpoints; %v; %s\n",
		process, s.Name, s.Dom.ID(), s.Kernel.Release(), watched, points, scope.Mechanism(), scope.Placement())
	for i, r := range refused {
		const shown = 10
		if i == shown {
			fmt.Fprintf(stderr, "funcgraph: and %d more are left out\n", len(refused)-shown)
			break
		}
		fmt.Fprintf(stderr, "funcgraph: %s is left out: %s\n", session.Printable(r.Name), session.OneLine(r.Why))
	}

	var gone func() bool
	if o.pid != 0 {
		gone = func() bool { return len(scope.Processes()) == 0 }
	}
	err = session.Flushing(served, cancel, g.out.Flush, gone)
	// The guest comes first: what follows may wait for whoever reads it.
	err = errors.Join(err, s.Close())
	g.finish()
	if ferr := g.out.Flush(); err == nil {
		err = ferr
	}
	stats, serr := scope.Stats()
	err = errors.Join(err, serr)
	why := ""
	if g.lost > 0 {
		why = fmt.Sprintf(" (the last because of: %s)", session.OneLine(g.why))
	}
	c := &g.calls
	fmt.Fprintf(stderr, "funcgraph: %d calls; %d whose end was not seen, %d ends of calls from before, %d lost%s\n",
		g.ended, c.Missed, c.Unentered, c.Dropped+g.lost+int(stats.Unknown), why)
	fmt.Fprintf(stderr, "funcgraph: breakpoints: %d hits of interest, %d of other processes, %d to follow the process; CR3 writes: %d events, %d dropped by Xen\n",
		stats.Hits, stats.Foreign, stats.Hooks, stats.CR3.Events, stats.CR3.Dropped)
	return err
}

// newGraph returns a graph of functions that writes to w.
func newGraph(k *linux.Kernel, functions []kfunc.Function, f form, w io.Writer, now func() time.Time) *graph {
	g := &graph{now: now, symbol: func(va vmi.VirtAddr) string {
		if s, off, ok := k.Symbols().At(va); ok && off == 0 {
			return session.Printable(s.Name)
		}
		return va.String()
	}}
	for _, f := range functions {
		g.names = append(g.names, session.Printable(f.Name))
	}
	switch f {
	case formJSON:
		g.out = &records{pen{w: w}}
	case formPerfetto:
		g.out = newPerfetto(w, now)
	default:
		g.out = newTree(w)
	}
	return g
}
