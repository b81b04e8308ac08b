// Package mortal has a program end at a chosen one of its calls of the Xen
// devices, for tests of what kill -9 leaves behind.
package mortal

import (
	"sync"
	"unsafe" // for the argument of an ioctl

	"github.com/govmi/govmi/internal/device"
)

// Devices are the devices of one program. Calls are ioctls and mappings of
// device memory; they may come from several goroutines.
type Devices struct {
	device.Opener
	die func()

	mu    sync.Mutex
	calls int
	at    int
	after bool
	dead  bool
}

// New returns devices of a program that ends by die, which must not return and
// may be called from several goroutines.
func New(o device.Opener, die func()) *Devices { return &Devices{Opener: o, die: die} }

// DieAt has the program end at its n'th call, counted from 1: before the call
// has its effect, or after that. What comes later has none. Zero is never.
func (d *Devices) DieAt(n int, after bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.after = n, after
}

// Calls returns how many calls there were.
func (d *Devices) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Open opens a device.
func (d *Devices) Open(k device.Kind) (device.File, error) {
	f, err := d.Opener.Open(k)
	if err != nil {
		return nil, err
	}
	return &file{f, d}, nil
}

// begin counts a call, and tells whether it is the last.
func (d *Devices) begin() (last bool) {
	d.mu.Lock()
	d.calls++
	last = d.calls == d.at && d.after
	dead := d.dead || d.calls == d.at && !d.after
	d.dead = dead || last
	d.mu.Unlock()
	if dead {
		d.die()
	}
	return last
}

func (d *Devices) end(last bool) {
	if last {
		d.die()
	}
}

type file struct {
	device.File
	devices *Devices
}

func (f *file) Ioctl(req uint32, arg unsafe.Pointer) (int, error) {
	last := f.devices.begin()
	n, err := f.File.Ioctl(req, arg)
	f.devices.end(last)
	return n, err
}

func (f *file) Map(length int, writable bool) ([]byte, error) {
	last := f.devices.begin()
	b, err := f.File.Map(length, writable)
	f.devices.end(last)
	return b, err
}
