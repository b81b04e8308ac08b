package lab

import (
	"context"
	"errors"
	"testing"
)

func TestTakeCore(t *testing.T) {
	dir := t.TempDir()
	take := func(ctx context.Context, cores int) func() {
		t.Helper()
		release, err := takeCore(ctx, dir, cores, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	one := take(t.Context(), 2)
	two := take(t.Context(), 2)

	// All taken: a third waits, and gives up with its context.
	ctx, cancel := context.WithCancel(t.Context())
	var told string
	_, err := takeCore(ctx, dir, 2, func(text string) { told = text; cancel() })
	if !errors.Is(err, context.Canceled) || told == "" {
		t.Errorf("with all cores taken: %v, told %q", err, told)
	}

	// It gets one when one is given back.
	got := make(chan func())
	go func() { got <- take(t.Context(), 2) }()
	one()
	(<-got)()
	two()
	take(t.Context(), 1)()
}
