package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/govmi/govmi/internal/lab/cache"
)

// takeCores waits until n of the machine's cores are used by no other lab, of whatever process, and returns how to give them back. An
// emulator that shares its core runs into other emulators' time, and its guests into their own timeouts.
func takeCores(ctx context.Context, cacheDir string, n, all int, progress func(string)) (release func(), err error) {
	dir := filepath.Join(cacheDir, "cores")
	// One process collects at a time, so that two that need all do not hold half each.
	turn, err := cache.TryLock(filepath.Join(dir, "turn"))
	if err == nil && turn == nil {
		progress("waiting for other labs on this machine to end")
		turn, err = cache.Lock(ctx, filepath.Join(dir, "turn"))
	}
	if err != nil {
		return nil, fmt.Errorf("wait for a free core: %w", err)
	}
	defer turn()
	var held []func()
	free := sync.OnceFunc(func() {
		for _, unlock := range held {
			unlock()
		}
	})
	for told := false; ; told = true {
		for core := 0; core < all && len(held) < min(n, all); core++ {
			unlock, err := cache.TryLock(filepath.Join(dir, fmt.Sprint(core)))
			if err != nil {
				free()
				return nil, fmt.Errorf("wait for a free core: %w", err)
			}
			if unlock != nil {
				held = append(held, unlock)
			}
		}
		if len(held) == min(n, all) {
			return free, nil
		}
		if !told {
			progress("waiting for other labs on this machine to end")
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			free()
			return nil, fmt.Errorf("wait for a free core: %w", context.Cause(ctx))
		}
	}
}
