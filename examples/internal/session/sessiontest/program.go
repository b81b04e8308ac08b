// Package sessiontest runs the programs that monitor a guest within tests.
package sessiontest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds what should take seconds.
const patience = 3 * time.Minute

// Buffer is a bytes.Buffer that may be read while a program writes to it. Its
// zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Await waits until the buffer has what n times.
func (b *Buffer) Await(t *testing.T, what string, n int) {
	t.Helper()
	for end := time.Now().Add(patience); strings.Count(b.String(), what) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %d times %q in %q", n, what, b.String())
		}
	}
}

// Program is a program that runs beside a test.
type Program struct {
	Out, Msg Buffer // what it wrote to its standard output and error

	t    *testing.T
	stop context.CancelFunc
	done chan int
}

// Start runs a program and returns when its messages have the word, with which it
// says that it watches. The test's end ends it. run returns the exit status.
func Start(t *testing.T, word string, run func(ctx context.Context, stdout, stderr io.Writer) int) *Program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &Program{t: t, stop: cancel, done: make(chan int, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.done <- run(ctx, &p.Out, &p.Msg)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the program does not end")
		}
		if t.Failed() {
			out := p.Out.String()
			t.Logf("messages:\n%s\nlast lines:\n%s", p.Msg.String(), out[max(0, len(out)-3000):])
		}
	})
	for end := time.Now().Add(patience); !strings.Contains(p.Msg.String(), word); {
		select {
		case status := <-p.done:
			t.Fatalf("ended with status %d: %s", status, p.Msg.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("no %q after %v", word, patience)
		}
	}
	return p
}

// Stop asks the program to end.
func (p *Program) Stop() { p.stop() }

// Wait returns the output when the program has ended, which is to be by itself
// or after Stop, and with status 0.
func (p *Program) Wait() string {
	p.t.Helper()
	select {
	case status := <-p.done:
		p.done <- status
		if status != 0 {
			p.t.Errorf("status %d: %s", status, p.Msg.String())
		}
	case <-time.After(patience):
		p.t.Fatal("still running after ", patience)
	}
	return p.Out.String()
}

// Lossless is Wait for a program that counts what it has lost.
func (p *Program) Lossless() string {
	p.t.Helper()
	out := p.Wait()
	if msg := p.Msg.String(); !strings.Contains(msg, " 0 lost\n") {
		p.t.Errorf("messages %q", msg)
	}
	return out
}
