package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/breakpoint/user"
	"github.com/govmi/govmi/examples/internal/kfunc"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// run is the program: it watches until ctx or the process ends, and returns the exit
// status: 2 for a wrong command line, 1 for another error. x may be nil.
func run(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = session.With(x, o.domain, o.file, stdout, func(s *session.Session, out io.Writer) error {
			return watch(ctx, s, o, out, stderr)
		})
	}
	return session.Status("uprobe", err, stderr)
}

func watch(ctx context.Context, s *session.Session, o options, out, stderr io.Writer) (err error) {
	proc, err := process(s.Kernel, o)
	if err != nil {
		return err
	}
	file, err := mapped(proc.Task, o.mapped)
	if err != nil {
		return err
	}
	fns, err := functions(file, o.functions, o.ret)
	if err != nil {
		return err
	}
	fault, _, err := kfunc.Find(s.Kernel, []string{"handle_mm_fault"}, 1)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pen := session.NewWriter(ctx, out)
	defer pen.Close()

	dom, err := s.Journaled()
	if err != nil {
		return err
	}
	how := breakpoint.ViewByInstruction
	if o.shared {
		how = breakpoint.Automatic
	}
	engine, err := breakpoint.Open(breakpoint.Guest{Domain: dom, Monitor: s.Mon, Frames: vmi.MapperFunc(s.Dom.MapFrames), Loop: s.Loop},
		&breakpoint.Options{Strategy: how})
	if err != nil {
		return fmt.Errorf("functions of a process need altp2m views, or -shared (see -help): %w", err)
	}
	served := s.Serve(ctx)
	p := &probe{args: o.args, json: o.json, now: time.Now, who: func(r *xen.Request) (thread, error) { return identify(s.Kernel, r) }}
	points, err := user.Open(engine, s.Kernel, user.Fault{Addr: fault[0].Addr, Exits: fault[0].Exits}, proc.TGID, &user.Options{PatchShared: o.shared})
	waiting := 0
	if err == nil {
		waiting, err = insert(points, file, fns, p)
	}
	if err != nil {
		cancel()
		err = errors.Join(err, session.UnlessCanceled(<-served))
		if points != nil {
			err = errors.Join(err, points.Close())
		}
		return errors.Join(err, engine.Close())
	}
	fmt.Fprintf(stderr, "uprobe: watching %d functions of %s in process %d (%s) of domain %s (%d), Linux %s; %d breakpoints wait for their pages; %v\n",
		len(fns), session.Printable(file.Path), proc.TGID, session.Printable(proc.Comm), s.Name, s.Dom.ID(), s.Kernel.Release(), waiting, engine.Strategy())
	for _, f := range fns {
		if f.why != nil {
			fmt.Fprintf(stderr, "uprobe: %s is printed when it begins: %s\n", session.Printable(f.Name), session.OneLine(f.why))
		}
	}
	flush := func() error {
		b := p.take()
		if len(b) == 0 {
			return nil
		}
		_, err := pen.Write(b)
		return err
	}
	gone := func() bool {
		now, err := proc.Task.Info()
		return err != nil || now.TGID != proc.TGID || now.Start != proc.Start || now.State == 'X' || now.State == 'Z'
	}
	err = session.Flushing(served, cancel, flush, gone)
	// The guest comes first: what follows may wait for whoever reads it.
	err = errors.Join(err, points.Close(), engine.Close(), s.Close())
	if ferr := flush(); err == nil {
		err = ferr
	}
	stats := points.Stats()
	if copies := engine.Stats().Repaired; copies > 0 {
		fmt.Fprintf(stderr, "uprobe: copies of breakpoints taken back: %d\n", copies)
	}
	fmt.Fprintf(stderr, "uprobe: page faults of the guest: %d; breakpoints moved to another frame: %d, could not be: %d\n", stats.Faults, stats.Moves, stats.Failed)
	fmt.Fprintf(stderr, "uprobe: %d calls; %d whose end was not seen, %d ends of calls from before, %d lost\n",
		p.seen, p.calls.Missed, p.calls.Unentered, p.calls.Dropped+p.lost)
	return err
}

// insert watches functions of a file. It returns how many breakpoints wait for
// their pages.
func insert(points *user.Process, file *linux.MappedFile, fns []function, p *probe) (waiting int, err error) {
	place := func(offset uint64, h breakpoint.Handler) error {
		b, err := points.Insert(file, offset, h)
		if err != nil {
			return err
		}
		if armed, _ := b.Armed(); !armed {
			waiting++
		}
		return nil
	}
	for i := range fns {
		f := &fns[i]
		// Ends first, so that the end of a call that is seen is seen as well.
		for j := range f.exits {
			e := &f.exits[j]
			if err := place(uint64(e.Addr), func(r *xen.Request) xen.Response {
				if e.Leaves(&r.Regs) {
					p.leave(i, e.Tail, r)
				}
				return xen.Response{}
			}); err != nil {
				return 0, fmt.Errorf("end of %s: %w", f.Name, err)
			}
		}
		if err := place(f.Offset, func(r *xen.Request) xen.Response {
			p.enter(i, f, r)
			return xen.Response{}
		}); err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return waiting, nil
}

// identify tells which thread a vCPU runs.
func identify(k *linux.Kernel, r *xen.Request) (th thread, err error) {
	t, err := k.CurrentTaskOn(r.VCPU, &r.Regs)
	if err != nil {
		return th, err
	}
	th.addr = t.Addr
	if th.pid, err = t.TGID(); err != nil {
		return th, err
	}
	if th.tid, err = t.PID(); err != nil {
		return th, err
	}
	comm, err := t.Comm()
	th.comm = session.Printable(comm.String())
	return th, err
}
