// Package evtchn binds one event channel of /dev/xen/evtchn.
package evtchn

import (
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"unsafe" // ioctl arguments

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
)

// Channel is a bound event channel, and a second one that leads from the device
// to itself: by an event of that, Wake ends a read. To poll for something else
// before each read would be one system call more for each event.
//
// Wake may be called from any goroutine and Notify from any one at a time; one
// goroutine at a time may wait.
type Channel struct {
	dev    device.File
	port   uint32
	notify *abi.EvtchnPort // allocated once: Notify must not allocate
	wake   *abi.EvtchnPort // the far end of the channel to itself
	buf    [64]byte
	ioctls atomic.Uint64
	closed bool
}

// Bind binds the remote domain's port on the open device dev, which the
// channel owns from then on, also if Bind fails.
func Bind(dev device.File, remoteDomain uint16, remotePort uint32) (*Channel, error) {
	c := &Channel{dev: dev}
	port, err := c.bind(remoteDomain, remotePort)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	c.port, c.notify = port, &abi.EvtchnPort{Port: port}
	near, err := c.ioctl(abi.IoctlEvtchnBindUnbound, unsafe.Pointer(&abi.EvtchnBindUnbound{RemoteDomain: abi.DomIDSelf}))
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	far, err := c.bind(abi.DomIDSelf, uint32(near))
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	c.wake = &abi.EvtchnPort{Port: far}
	return c, nil
}

func (c *Channel) bind(domain uint16, port uint32) (local uint32, err error) {
	arg := &abi.EvtchnBindInterdomain{RemoteDomain: uint32(domain), RemotePort: port}
	n, err := c.ioctl(abi.IoctlEvtchnBindInterdomain, unsafe.Pointer(arg))
	return uint32(n), err
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

// Wait blocks until something arrives, or has since the last Wait, and reports
// whether it came from the remote end, and not from Wake alone. The channel is
// unmasked again, so that what happens after Wait makes a new event: look at the
// shared state after it.
func (c *Channel) Wait() (ready bool, err error) {
	n, err := c.dev.Read(c.buf[:])
	if err != nil {
		return false, err
	}
	if n < 4 {
		return false, io.ErrUnexpectedEOF
	}
	for i := 0; i+4 <= n; i += 4 {
		ready = ready || binary.NativeEndian.Uint32(c.buf[i:]) == c.port
	}
	if _, err := c.dev.Write(c.buf[:n]); err != nil {
		return false, err
	}
	return ready, nil
}

// Wake ends the present Wait, or else the next.
func (c *Channel) Wake() error {
	_, err := c.dev.Ioctl(abi.IoctlEvtchnNotify, unsafe.Pointer(c.wake))
	return err
}

// Close unbinds the channel, and with the device the one to itself. It is
// idempotent; nobody may use the channel any more.
func (c *Channel) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	_, err := c.ioctl(abi.IoctlEvtchnUnbind, unsafe.Pointer(&abi.EvtchnPort{Port: c.port}))
	return errors.Join(err, c.dev.Close())
}
