// Package cache keeps what the lab has fetched and built: a folder in which every entry is named after its content or version, is written
// once under a temporary name, and then renamed into place.
//
// An entry that exists is complete. Several processes may use one cache at the same time.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Env is the environment variable that names another cache folder.
const Env = "GOVMI_CACHE"

// Dir returns the cache folder: $GOVMI_CACHE, or govmi under the user's cache folder. It is not created.
func Dir() (string, error) {
	if dir := os.Getenv(Env); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder (set %s): %w", Env, err)
	}
	return filepath.Join(dir, "govmi"), nil
}

// Build returns path, after calling build to make it if it does not exist. build gets a temporary path next to it, which it creates as a
// file or as a folder; the result is renamed to path when build returns nil and removed otherwise. One process builds a path at a time, the
// others wait.
func Build(ctx context.Context, path string, build func(tmp string) error) (string, error) {
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := Lock(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil { // another process was faster
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	tmp := path + ".tmp"
	if err := os.RemoveAll(tmp); err != nil { // of a process that was killed
		return "", err
	}
	if err := build(tmp); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	return path, nil
}

// Lock takes the exclusive lock that the file at path stands for, creating the file and its folder. It waits until the lock is free or ctx
// ends. The lock ends with the process at the latest; unlock may be called once.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		unlock, err := TryLock(path)
		if unlock != nil || err != nil {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TryLock is Lock without waiting: unlock is nil if the lock is not free.
func TryLock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if !ok {
		return nil, f.Close()
	}
	return func() { f.Close() }, nil
}
