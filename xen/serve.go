package xen

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/govmi/govmi/internal/device"
)

// livenessInterval is how long an idle Serve waits, or up to twice as long, before it
// asks whether the domain is still there: Xen tells the monitor nothing when it dies.
// Each time Go's monitor thread wakes up too, and looks around some fifty times before
// it sleeps again, at the guest's cost where they share a processor.
const livenessInterval = 2 * time.Second

// Serve answers requests with h, one after the other on the calling goroutine,
// until ctx ends (the error is ctx.Err()), the monitor is closed ([ErrClosed]),
// the domain dies ([ErrNoDomain]), or the ring or a response of h is faulty.
//
// Every request that was taken is answered, whatever ends Serve: if h panics,
// the request at hand is answered with a plain continue and the panic goes on.
// Requests still in the ring stay there for the next Serve, [Monitor.Drain] or
// [Monitor.Close].
//
// Between a request and its answer there is no allocation and no hypercall but
// the notification, of which several requests that arrived together share one.
//
// Where the program has one processor (GOMAXPROCS) only, the scheduler takes it
// away while Serve waits and gives it back for each event. A second one, even
// on a machine with a single CPU, lets Serve keep its own, which makes an event
// a sixth cheaper.
func (m *Monitor) Serve(ctx context.Context, h Handler) (err error) {
	if !m.serving.TryLock() {
		return fault("serve", m.dom.id, nil, "the monitor is being served, drained or closed already")
	}
	defer m.serving.Unlock()
	if m.closing.Load() {
		return fault("serve", m.dom.id, ErrClosed, "")
	}
	w := watcher{wake: m.tr.wake}
	defer w.start(ctx)()
	// Last: also a panic in h leaves through here.
	defer func() {
		if serr := m.tr.settle(); serr != nil {
			err = errors.Join(err, m.broken(serr))
		}
	}()

	var pace device.Pace
	for {
		if m.closing.Load() {
			return fault("serve", m.dom.id, ErrClosed, "")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := m.tr.answer(h)
		if err != nil {
			return m.broken(err)
		}
		if n > 0 {
			w.answered.Add(uint64(n))
			continue // more may have come meanwhile, and looking costs nothing
		}
		pace.Step()
		if err := m.tr.wait(); err != nil {
			return m.broken(err)
		}
		if w.idle.Swap(false) {
			if err := m.dom.gone(); err != nil {
				return err
			}
		}
	}
}

// watcher wakes a Serve that waits.
type watcher struct {
	wake     func() error  // fails only with the channel, which Serve sees
	answered atomic.Uint64 // how many requests
	idle     atomic.Bool   // none for as long as livenessInterval
}

// start has it do so when ctx ends, and whenever there was nothing to answer for
// livenessInterval, until stop is called.
func (w *watcher) start(ctx context.Context) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(livenessInterval)
		defer tick.Stop()
		for last := uint64(0); ; {
			select {
			case <-quit:
				return
			case <-ctx.Done():
				w.wake()
				return
			case <-tick.C:
			}
			n := w.answered.Load()
			if n == last {
				w.idle.Store(true)
				w.wake()
			}
			last = n
		}
	}()
	return func() {
		if ctx.Err() == nil { // else it ends by itself, and always wakes before
			close(quit)
		}
		<-done
	}
}

// broken reports err, or rather that the domain is gone if that is why.
func (m *Monitor) broken(err error) error {
	if gone := m.dom.gone(); gone != nil {
		return errors.Join(gone, err)
	}
	return err
}

// Drain answers everything that is in the ring with a plain continue, without
// waiting, and returns how many requests that were. In a guest that goes on
// making events it stops at some point. It must not be called while the
// monitor is served.
func (m *Monitor) Drain() (int, error) {
	if !m.serving.TryLock() {
		return 0, fault("drain", m.dom.id, nil, "the monitor is being served or closed")
	}
	defer m.serving.Unlock()
	if m.closing.Load() {
		return 0, fault("drain", m.dom.id, ErrClosed, "")
	}
	return m.drain()
}

func (m *Monitor) drain() (total int, err error) {
	for range 1024 {
		n, err := m.tr.answer(func(*Request) Response { return Response{} })
		total += n
		if err != nil {
			return total, m.broken(errors.Join(err, m.tr.settle()))
		}
		if n == 0 {
			break
		}
	}
	return total, nil
}
