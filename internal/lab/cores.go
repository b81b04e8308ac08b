package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/govmi/govmi/internal/lab/cache"
)

// takeCore waits until one of the machine's cores is used by no other lab, of whatever process, and returns how to give it back. Emulators
// that share a core run into each other's time, and their guests into timeouts of their own. A machine of two CPUs takes one core
// all the same: it rarely has both busy, but is slow beside others, which is its caller's to avoid.
func takeCore(ctx context.Context, cacheDir string, cores int, progress func(string)) (release func(), err error) {
	for told := false; ; told = true {
		for core := range cores {
			unlock, err := cache.TryLock(filepath.Join(cacheDir, "cores", fmt.Sprint(core)))
			if unlock != nil || err != nil {
				return unlock, err
			}
		}
		if !told {
			progress("waiting for other labs on this machine to end")
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a free core: %w", context.Cause(ctx))
		}
	}
}
