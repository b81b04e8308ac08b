package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestBuildOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "entry")
	var calls atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := Build(t.Context(), path, func(tmp string) error {
				calls.Add(1)
				return os.WriteFile(tmp, []byte("x"), 0o644)
			})
			if err != nil || got != path {
				t.Errorf("Build = %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("built %d times, want 1", n)
	}
}

func TestBuildFailureLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "entry")
	boom := errors.New("boom")
	_, err := Build(t.Context(), path, func(tmp string) error {
		if err := os.WriteFile(tmp, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Build: %v, want %v", err, boom)
	}
	for _, p := range []string{path, path + ".tmp"} {
		if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left behind: %v", p, err)
		}
	}
}

func TestLockEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("second Lock: %v, want %v", err, context.Canceled)
	}
	unlock()
	unlock, err = Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
