package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/xen"
)

// run is the program: it watches until ctx ends or as many accesses were seen as
// were asked for, and returns the exit status: 2 for a wrong command line, 1 for
// another error. x may be nil.
func run(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = session.With(x, o.domain, o.file, stdout, func(s *session.Session, out io.Writer) error {
			return observe(ctx, s, o, out, stderr)
		})
	}
	return session.Status("memwatch", err, stderr)
}

func observe(ctx context.Context, s *session.Session, o options, out, stderr io.Writer) (err error) {
	t, err := find(s.Kernel, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWatch(s.Kernel, t, o)
	w.end = cancel
	pen := session.NewWriter(ctx, out)
	defer pen.Close()

	var f fence
	ready := make(chan struct{}) // closed when f is set
	err = errors.Join(
		s.Loop.OnMemAccess(func(r *xen.Request) xen.Response {
			<-ready
			w.saw(r)
			return f.access(r)
		}),
		s.Loop.OnSingleStep(func(r *xen.Request) xen.Response {
			<-ready
			return f.step(r)
		}))
	if err != nil {
		return err
	}
	dom, err := s.Journaled()
	if err != nil {
		return err
	}
	// The guest stands still until the fence is whole.
	if err := s.Dom.Pause(); err != nil {
		return err
	}
	f, err = newFence(dom, s.Mon, t, o.kinds.leaves(), o.noViews)
	if err != nil {
		return errors.Join(err, s.Dom.Unpause())
	}
	close(ready)
	defer func() { err = errors.Join(err, f.open()) }() // before the session's
	served := s.Serve(ctx)
	if err := s.Dom.Unpause(); err != nil {
		cancel()
		return errors.Join(err, session.UnlessCanceled(<-served))
	}
	fmt.Fprintf(stderr, "memwatch: watching %s of domain %s (%d), Linux %s; %d frames, %v\n",
		t.what, s.Name, s.Dom.ID(), s.Kernel.Release(), len(t.spans), f)
	flush := func() error {
		b := w.take()
		if len(b) == 0 {
			return nil
		}
		_, err := pen.Write(b)
		return err
	}
	err = session.Flushing(served, cancel, flush, nil)
	// The guest comes first: what follows may wait for whoever reads it.
	err = errors.Join(err, f.open(), s.Close())
	if ferr := flush(); err == nil {
		err = ferr
	}
	fmt.Fprintf(stderr, "memwatch: %d accesses, %d by a thread that could not be told; %d others to the same frames\n", w.seen, w.unknown, w.beside)
	return err
}
