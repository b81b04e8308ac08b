// Package device opens the kernel's Xen devices. Its interfaces are the seam
// at which a fake hypervisor replaces them: everything above speaks in the
// kernel's ioctls.
package device

import (
	"errors"
	"io"
	"unsafe" // for the argument of an ioctl
)

// ErrPlatform says that this operating system has no Xen devices.
var ErrPlatform = errors.New("no Xen devices on this platform")

// ErrLocked says that somebody holds the lock.
var ErrLocked = errors.New("the lock is held")

// Kind is one of the devices.
type Kind int

// The devices under /dev/xen.
const (
	Privcmd   Kind = iota // hypercalls and foreign memory
	Hypercall             // memory for hypercall arguments
	Evtchn                // event channels
)

func (k Kind) String() string {
	switch k {
	case Privcmd:
		return "/dev/xen/privcmd"
	case Hypercall:
		return "/dev/xen/hypercall"
	case Evtchn:
		return "/dev/xen/evtchn"
	}
	return "unknown device"
}

// File is an open device. Its methods may be called from several goroutines,
// but not during or after Close.
type File interface {
	// Ioctl returns what the kernel returns, and a syscall.Errno as error.
	// arg points to whatever req wants; it is kept alive for the call.
	Ioctl(req uint32, arg unsafe.Pointer) (int, error)
	// Map maps length bytes of the device, shared.
	Map(length int, writable bool) ([]byte, error)
	// Unmap takes a slice that Map returned.
	Unmap(b []byte) error
	// Read blocks until there is something; a signal does not end it.
	Read(p []byte) (int, error)
	// Write returns at once.
	Write(p []byte) (int, error)
	Close() error
}

// Opener opens devices.
type Opener interface {
	Open(k Kind) (File, error)
	// XenStore connects to xenstored.
	XenStore() (io.ReadWriteCloser, error)
	// Lock takes the lock of that name among this machine's processes. Close
	// gives it back, and so does the process's end. [ErrLocked]: it is taken.
	Lock(name string) (io.Closer, error)
}
