package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

const (
	// flushInterval is how long a line may wait for its writing.
	flushInterval = 50 * time.Millisecond
	// lookInterval is how often it is looked whether the processes live.
	lookInterval = time.Second
)

// run is the program: it watches until ctx ends or all processes have, and
// returns the exit status: 2 for a wrong command line, 1 for another error.
func run(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = session.With(x, o.domain, "", stdout, func(s *session.Session, out io.Writer) error {
			return follow(ctx, s, o, out, stderr)
		})
	}
	return session.Status("cr3watch", err, stderr)
}

func follow(ctx context.Context, s *session.Session, o options, stdout, stderr io.Writer) (err error) {
	tasks, err := find(s.Kernel, o)
	if err != nil {
		return err
	}
	w := &watch{kernel: s.Kernel, quiet: o.quiet, now: time.Now, begun: time.Now(), procs: map[vmi.PhysAddr]*watched{}}
	w.filter, err = cr3filter.Open(s.Mon, cr3filter.Linux(s.Kernel.KPTI()), w.switched)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.filter.Close()) }()
	if err := s.Loop.OnCtrlReg(xen.CR3, w.filter.Handle); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.time > 0 {
		ctx, cancel = context.WithTimeout(ctx, o.time)
		defer cancel()
	}
	served := s.Serve(ctx)
	for _, t := range tasks {
		if err := w.add(t); err != nil {
			cancel()
			<-served
			return err
		}
	}
	fmt.Fprintf(stderr, "cr3watch: watching %d processes of domain %s (%d), Linux %s; %v\n",
		len(tasks), s.Name, s.Dom.ID(), s.Kernel.Release(), w.filter.Mechanism())
	err = w.run(served, cancel, stdout)
	// The guest comes first: what follows may wait for whoever reads it.
	stats, serr := w.filter.Stats()
	err = errors.Join(err, serr, w.filter.Close(), s.Close())
	if ferr := w.flush(stdout); err == nil {
		err = ferr
	}
	fmt.Fprintf(stderr, "cr3watch: CR3 writes: %d events, %d of them switches of the processes, %d dropped by Xen\n",
		stats.Events, stats.Switches, stats.Dropped)
	return errors.Join(err, w.summary(stdout))
}

// run writes lines until serving events ends, which it makes end when no process
// is left.
func (w *watch) run(served <-chan error, cancel func(), out io.Writer) (failed error) {
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case err := <-served:
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				err = nil
			}
			return errors.Join(failed, err)
		case <-look.C:
			left, err := w.prune()
			if failed = errors.Join(failed, err); left == 0 || failed != nil {
				cancel()
			}
		case <-flush.C:
			if err := w.flush(out); err != nil && failed == nil {
				failed = fmt.Errorf("write: %w", err)
				cancel()
			}
		}
	}
}
