package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

func TestWriter(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	w := NewWriter(ctx, &out)
	defer w.Close()
	for _, s := range []string{"one ", "two "} {
		if n, err := io.WriteString(w, s); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	cancel() // what is left is still written
	if _, err := io.WriteString(w, "three"); err != nil {
		t.Fatal(err)
	}
	if out.String() != "one two three" {
		t.Errorf("%q", out.String())
	}
}

func TestWriterError(t *testing.T) {
	r, pipe := io.Pipe()
	r.Close()
	w := NewWriter(t.Context(), pipe)
	defer w.Close()
	for range 2 {
		if _, err := io.WriteString(w, "x"); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
}

// A reader that reads nothing does not keep the tracer.
func TestWriterStalled(t *testing.T) {
	r, pipe := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	w := NewWriter(ctx, pipe)
	w.grace = 0
	cancel()
	for range 2 {
		if _, err := io.WriteString(w, "x"); !errors.Is(err, errStalled) {
			t.Error(err)
		}
	}
	r.Close() // lets the goroutine go
	w.Close()
}
