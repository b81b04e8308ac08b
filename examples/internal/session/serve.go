package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// flushInterval is how long output may wait for its writing.
	flushInterval = 50 * time.Millisecond
	// lookInterval is how often what is traced is looked for.
	lookInterval = time.Second
)

// errSaved ends a session whose domain is about to be saved or migrated.
var errSaved = errors.New("the domain is being saved or migrated: detached, so that it is without breakpoints")

// Serve serves the session's events on a goroutine until ctx ends, or the domain is
// to be saved, and sends why it ended.
func (s *Session) Serve(ctx context.Context) <-chan error {
	served := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		// Where XenStore cannot be watched, the rest still works.
		if s.Dom.WaitSuspend(ctx) == nil {
			cancel(errSaved)
		}
	}()
	go func() {
		err := Guarded(func() error { return s.Loop.Run(ctx) })
		if errors.Is(context.Cause(ctx), errSaved) && errors.Is(err, context.Canceled) {
			err = errSaved
		}
		cancel(nil)
		<-watched
		served <- err
	}()
	return served
}

// Flushing calls flush again and again until serving events ends, and returns why
// it ended, nil if that was to be. cancel ends it; so does an error of flush.
//
// Serving also ends when gone, if it is not nil, says twice in a row that what is
// traced is gone: it may have ended while the breakpoints were on their way.
func Flushing(served <-chan error, cancel func(), flush func() error, gone func() bool) (failed error) {
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
			return UnlessCanceled(err)
		case <-look.C:
			if gone == nil {
				continue
			}
			if missed++; !gone() {
				missed = 0
			}
			if missed == 2 {
				cancel()
			}
		case <-tick.C:
			if err := flush(); err != nil && failed == nil {
				failed = fmt.Errorf("write the trace: %w", err)
				cancel()
			}
		}
	}
}

// UnlessCanceled is the error of an event loop that may have been asked to end.
func UnlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
