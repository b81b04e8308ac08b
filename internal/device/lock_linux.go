//go:build linux && amd64

package device

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks a file in /run, which only root can do. The file stays, because
// its removal would let two processes lock two files of one name.
func (Kernel) Lock(name string) (io.Closer, error) {
	return lockFile("/run/govmi-" + name + ".lock")
}

func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
