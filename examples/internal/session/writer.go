package session

import (
	"context"
	"errors"
	"io"
	"time"
)

// errStalled is a write that did not end after tracing had.
var errStalled = errors.New("output is stalled")

// grace is how long a write may take when tracing is to end.
const grace = 3 * time.Second

// Writer writes on a goroutine of its own, so that whoever reads the output
// slowly, or not at all, cannot keep the program from restoring the guest.
type Writer struct {
	ctx   context.Context // of tracing
	grace time.Duration
	in    chan []byte
	out   chan error
	err   error
}

// NewWriter returns a writer to w; ctx is that of the events. Its goroutine ends
// with Close, or with the process if a write never returns.
func NewWriter(ctx context.Context, w io.Writer) *Writer {
	a := &Writer{ctx: ctx, grace: grace, in: make(chan []byte), out: make(chan error, 1)}
	go func() {
		for p := range a.in {
			_, err := w.Write(p)
			a.out <- err
		}
	}()
	return a
}

// Write waits for the write, and with the end of tracing a little longer. It
// is not to be called again after an error or from several goroutines.
func (a *Writer) Write(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	a.in <- append([]byte(nil), p...) // a stalled write keeps it
	select {
	case a.err = <-a.out:
	case <-a.ctx.Done():
		t := time.NewTimer(a.grace)
		defer t.Stop()
		select {
		case a.err = <-a.out:
		case <-t.C:
			a.err = errStalled
		}
	}
	if a.err != nil {
		return 0, a.err
	}
	return len(p), nil
}

// Close ends the goroutine. It is called once, and no Write after it.
func (a *Writer) Close() { close(a.in) }
