// Package evtchn binds one event channel of /dev/xen/evtchn.
package evtchn

import (
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe" // ioctl arguments

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
)

// Channel is a bound event channel. Wake may be called from any goroutine and
// Notify from any one at a time; one goroutine at a time may wait.
type Channel struct {
	dev    device.File
	wait   *device.Waiter
	port   uint32
	notify *abi.EvtchnPort // allocated once: Notify must not allocate
	buf    [64]byte
	ioctls atomic.Uint64
	closed bool
}

// Bind binds the remote domain's port on the open device dev, which the
// channel owns from then on, also if Bind fails.
func Bind(dev device.File, remoteDomain uint16, remotePort uint32) (*Channel, error) {
	c := &Channel{dev: dev}
	wait, err := device.NewWaiter(dev)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	c.wait = wait
	arg := &abi.EvtchnBindInterdomain{RemoteDomain: uint32(remoteDomain), RemotePort: remotePort}
	port, err := c.ioctl(abi.IoctlEvtchnBindInterdomain, unsafe.Pointer(arg))
	if err != nil {
		return nil, errors.Join(err, wait.Close(), dev.Close())
	}
	c.port = uint32(port)
	c.notify = &abi.EvtchnPort{Port: c.port}
	return c, nil
}

// Port returns the local port.
func (c *Channel) Port() uint32 { return c.port }

// Ioctls returns the number of ioctls made so far.
func (c *Channel) Ioctls() uint64 { return c.ioctls.Load() }

func (c *Channel) ioctl(req uint32, arg unsafe.Pointer) (int, error) {
	c.ioctls.Add(1)
	n, err := c.dev.Ioctl(req, arg)
	runtime.KeepAlive(arg)
	return n, err
}

// Notify sends an event to the remote end.
func (c *Channel) Notify() error {
	_, err := c.ioctl(abi.IoctlEvtchnNotify, unsafe.Pointer(c.notify))
	return err
}

// Pending takes what has arrived without blocking and reports whether
// anything had. The channel is unmasked again, so that what happens after
// Pending makes a new event: look at the shared state after it.
func (c *Channel) Pending() (bool, error) {
	n, err := c.dev.Read(c.buf[:])
	if err == syscall.EAGAIN {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n < 4 {
		return false, io.ErrUnexpectedEOF
	}
	ours := false
	for i := 0; i+4 <= n; i += 4 {
		ours = ours || binary.NativeEndian.Uint32(c.buf[i:]) == c.port
	}
	if _, err := c.dev.Write(c.buf[:n]); err != nil {
		return false, err
	}
	return ours, nil
}

// Wait blocks until an event arrives (take it with Pending), Wake was called
// since the last Reset, or the time is over.
func (c *Channel) Wait(timeout time.Duration) (ready, woken bool, err error) {
	return c.wait.Wait(timeout)
}

// Wake ends the present and the next Wait.
func (c *Channel) Wake() { c.wait.Wake() }

// Reset forgets earlier wake-ups.
func (c *Channel) Reset() { c.wait.Reset() }

// Close unbinds the channel. It is idempotent; nobody may use the channel any
// more.
func (c *Channel) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	_, err := c.ioctl(abi.IoctlEvtchnUnbind, unsafe.Pointer(&abi.EvtchnPort{Port: c.port}))
	return errors.Join(err, c.wait.Close(), c.dev.Close())
}
