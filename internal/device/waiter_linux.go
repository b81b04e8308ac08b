//go:build linux

package device

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// Waiter waits for input on a device or for a wake-up, without allocating.
type Waiter struct {
	fds   [2]unix.PollFd
	event int
}

// NewWaiter returns a waiter for f.
func NewWaiter(f File) (*Waiter, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &Waiter{event: fd}
	w.fds[0] = unix.PollFd{Fd: int32(f.FD()), Events: unix.POLLIN}
	w.fds[1] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	return w, nil
}

// Wait blocks until the device has input, [Waiter.Wake] was called since the
// last [Waiter.Reset], or the time is over. One goroutine at a time may wait.
func (w *Waiter) Wait(timeout time.Duration) (ready, woken bool, err error) {
	n, err := unix.Poll(w.fds[:], int(timeout/time.Millisecond))
	if err == unix.EINTR {
		return false, true, nil // as if woken: the caller looks around and waits again
	}
	if err != nil {
		return false, false, err
	}
	return n > 0 && w.fds[0].Revents != 0, n > 0 && w.fds[1].Revents != 0, nil
}

// Wake ends the present and the next Wait. It may be called from any
// goroutine.
func (w *Waiter) Wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(w.event, one[:]) // fails only when the counter is full, which wakes too
}

// Reset forgets earlier wake-ups.
func (w *Waiter) Reset() {
	var b [8]byte
	unix.Read(w.event, b[:]) // EAGAIN: there was none
}

// Close releases the waiter. Nobody may wait or wake any more.
func (w *Waiter) Close() error { return unix.Close(w.event) }
