package main

import (
	"context"
	"errors"
	"sync"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// watch is a monitor ring with its event loop: what the probes have in common.
type watch struct {
	mon    *xen.Monitor
	engine *breakpoint.Engine
	loop   *vmi.Loop
	served chan error // nil while nothing is served
	cancel context.CancelFunc

	mu     sync.Mutex
	counts table1.Counts
	err    error // the first one of a handler

	restore func() error // what is to be undone before detaching
	closing sync.Once
	closed  error
}

// newWatch attaches to the ring. Nothing is enabled or served yet.
func newWatch(t *target) (*watch, error) {
	mon, err := t.dom.OpenMonitor(nil)
	if err != nil {
		return nil, err
	}
	w := &watch{
		mon: mon, engine: breakpoint.New(vmi.MapperFunc(t.dom.MapFrames), t.dom), loop: vmi.NewLoop(mon),
	}
	w.restore = w.engine.Close
	return w, nil
}

// serve answers events until Close.
func (w *watch) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.served = cancel, make(chan error, 1)
	go func() { w.served <- w.loop.Run(ctx) }()
}

// count runs f with the counts locked; f's error is remembered.
func (w *watch) count(f func(c *table1.Counts) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := f(&w.counts); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *watch) Counts() (table1.Counts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts, w.err
}

// Close ends the loop, restores the guest, then detaches.
func (w *watch) Close() error {
	w.closing.Do(func() {
		var errs []error
		if w.served != nil {
			w.cancel()
			if err := <-w.served; !errors.Is(err, context.Canceled) {
				errs = append(errs, err)
			}
		}
		w.closed = errors.Join(append(errs, w.restore(), w.mon.Close())...)
	})
	return w.closed
}
