package main

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// bound is a monitor whose breakpoints are confined to the bash.
type bound struct {
	*watch
	scope *cr3filter.Scope
}

// Counts adds to the hits what the scope knows.
func (b *bound) Counts() (table1.Counts, error) {
	c, err := b.watch.Counts()
	s, serr := b.scope.Stats()
	c.Syscalls += s.Foreign // events all the same
	c.CR3Events = s.CR3.Events
	exits, dropped, unwatched := s.CR3.Events+s.CR3.Dropped, s.CR3.Dropped, s.CR3.Events-s.CR3.Switches
	c.CR3Exits, c.CR3Dropped, c.CR3Unwatched = &exits, &dropped, &unwatched
	c.Notes = map[string]uint64{"foreign hits": s.Foreign, "life-cycle hooks": s.Hooks}
	if s.Unknown > 0 {
		serr = errors.Join(serr, fmt.Errorf("%d hits of unknown threads", s.Unknown))
	}
	return c, errors.Join(err, serr)
}

// attachBound is methods 3 and 4.
func attachBound(o cr3filter.ScopeOptions) func(t *target, pid int) (probe, error) {
	return func(t *target, pid int) (_ probe, err error) {
		w, err := newWatch(t)
		if err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, w.Close())
			}
		}()
		c, err := newCalls(w, t, pid)
		if err != nil {
			return nil, err
		}
		entries, err := handlers(t.kernel)
		if err != nil {
			return nil, err
		}
		scope, err := cr3filter.OpenScope(cr3filter.Guest{
			Domain: t.dom, Monitor: w.mon, Frames: vmi.MapperFunc(t.dom.MapFrames), Kernel: t.kernel, Loop: w.loop,
		}, cr3filter.Process{PID: int32(pid)}, &o)
		if err != nil {
			return nil, err
		}
		w.restore = scope.Close
		w.serve()
		for name, entry := range entries {
			_, err := scope.Insert(entry, func(r *xen.Request, task linux.Task) xen.Response {
				c.hitBy(task, nil, name, r)
				return xen.Response{}
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := scope.Start(); err != nil {
			return nil, err
		}
		if o.NoTargetList == scope.TargetList() && o.Mechanisms[0] == cr3filter.FilteredByXen {
			return nil, errors.New("the CR3-target list is not as the method wants it")
		}
		return &bound{w, scope}, nil
	}
}
