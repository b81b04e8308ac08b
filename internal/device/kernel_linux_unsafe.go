//go:build linux && amd64

package device

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe" // ioctl arguments: this file is the only one that hands them to the kernel

	"golang.org/x/sys/unix"
)

// Kernel opens the running kernel's devices.
type Kernel struct{}

var _ Opener = Kernel{}

// Open opens /dev/xen/<kind>; for privcmd also its old place in /proc.
func (Kernel) Open(k Kind) (File, error) {
	paths := []string{k.String()}
	if k == Privcmd {
		paths = append(paths, "/proc/xen/privcmd")
	}
	var first error
	for _, p := range paths {
		fd, err := unix.Open(p, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			f := new(kernelFile)
			f.fd.Store(int64(fd))
			return f, nil
		}
		if first == nil {
			first = &fs.PathError{Op: "open", Path: p, Err: err}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, &fs.PathError{Op: "open", Path: p, Err: err}
		}
	}
	return nil, first
}

// XenStore connects to xenstored's socket, or to the kernel's device where
// xenstored runs elsewhere.
func (Kernel) XenStore() (io.ReadWriteCloser, error) {
	var errs []error
	for _, p := range []string{"/run/xenstored/socket", "/var/run/xenstored/socket"} {
		c, err := net.Dial("unix", p)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	for _, p := range []string{"/dev/xen/xenbus", "/proc/xen/xenbus"} {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("connect to xenstored: %w", errors.Join(errs...))
}

// kernelFile is an open device. Its descriptor is -1 once it is closed, so
// that use after Close is EBADF and never another file's.
type kernelFile struct{ fd atomic.Int64 }

func (f *kernelFile) Ioctl(req uint32, arg unsafe.Pointer) (int, error) {
	// Never retried: a hypercall may have had its effect when it fails. None waits
	// for anybody, so that Go's scheduler need not be told: it would take the
	// processor away meanwhile.
	n, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(f.fd.Load()), uintptr(req), uintptr(arg))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return int(n), errno
	}
	return int(n), nil
}

func (f *kernelFile) Map(length int, writable bool) ([]byte, error) {
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	p, err := unix.MmapPtr(int(f.fd.Load()), 0, nil, uintptr(length), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), length), nil
}

func (f *kernelFile) Unmap(b []byte) error {
	// It takes Xen as long as an ioctl does, for each page.
	_, _, errno := unix.RawSyscall(unix.SYS_MUNMAP, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (f *kernelFile) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(f.fd.Load()), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

func (f *kernelFile) Write(p []byte) (int, error) {
	// It does not wait for anything, so that Go's scheduler need not know of it.
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(f.fd.Load()), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (f *kernelFile) Close() error { return unix.Close(int(f.fd.Swap(-1))) }
