package lab

import (
	"context"
	"errors"
	"testing"
)

func TestTakeCores(t *testing.T) {
	dir := t.TempDir()
	quiet := func(string) {}
	take := func(ctx context.Context, n, all int) func() {
		t.Helper()
		release, err := takeCores(ctx, dir, n, all, quiet)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	one := take(t.Context(), 1, 2)
	two := take(t.Context(), 1, 2)

	// All taken: a third waits, and gives up with its context.
	ctx, cancel := context.WithCancel(t.Context())
	var told string
	_, err := takeCores(ctx, dir, 2, 2, func(text string) { told = text; cancel() })
	if !errors.Is(err, context.Canceled) || told == "" {
		t.Errorf("with all cores taken: %v, told %q", err, told)
	}

	// It gets them when they are given back.
	got := make(chan func())
	go func() { got <- take(t.Context(), 2, 2) }()
	one()
	two()
	two() // idempotent
	(<-got)()

	// More than there are: all of them will do.
	take(t.Context(), 8, 2)()
}
