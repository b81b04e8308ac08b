//go:build linux

package xenfake

import (
	"io"
	"syscall"
	"unsafe" // ioctl arguments and the memory that they point to

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
)

// Open opens one of the fake devices.
func (x *Xen) Open(k device.Kind) (device.File, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.cfg.Missing[k]; err != nil {
		return nil, err
	}
	x.files++
	switch k {
	case device.Privcmd:
		return &privcmdFile{x: x}, nil
	case device.Hypercall:
		return &hypercallFile{x: x}, nil
	}
	return x.openEvtchn()
}

// XenStore connects to a fake xenstored, which knows the domains' names.
func (x *Xen) XenStore() (io.ReadWriteCloser, error) { return serveStore(x), nil }

// Lock takes a lock of the fake's machine.
func (x *Xen) Lock(name string) (io.Closer, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.locks[name] {
		return nil, device.ErrLocked
	}
	if x.locks == nil {
		x.locks = map[string]bool{}
	}
	x.locks[name] = true
	return &lock{x: x, name: name}, nil
}

type lock struct {
	x    *Xen
	name string
}

func (l *lock) Close() error {
	l.x.mu.Lock()
	defer l.x.mu.Unlock()
	delete(l.x.locks, l.name)
	return nil
}

// noDevice has what a device does not do.
type noDevice struct{}

func (noDevice) Read([]byte) (int, error)  { return 0, syscall.EINVAL }
func (noDevice) Write([]byte) (int, error) { return 0, syscall.EINVAL }
func (noDevice) FD() int                   { return -1 }

// hypercallFile is an open /dev/xen/hypercall.
type hypercallFile struct {
	noDevice
	x *Xen
}

func (f *hypercallFile) Ioctl(uint32, unsafe.Pointer) (int, error) { return -1, syscall.ENOTTY }

func (f *hypercallFile) Map(length int, writable bool) ([]byte, error) {
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	if err := f.x.call("map hypercall memory"); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err == nil {
		f.x.hypercall[&b[0]] = b
	}
	return b, err
}

func (f *hypercallFile) Unmap(b []byte) error {
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	delete(f.x.hypercall, unsafe.SliceData(b))
	return unix.Munmap(b)
}

func (f *hypercallFile) Close() error { return f.x.closeFile() }

func (x *Xen) closeFile() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files--
	return nil
}

// privcmdFile is an open /dev/xen/privcmd.
type privcmdFile struct {
	noDevice
	x *Xen
}

func (f *privcmdFile) Close() error { return f.x.closeFile() }

// foreignMap is a mapping of privcmd.
type foreignMap struct {
	mem      []byte
	writable bool
	filled   bool
}

func (f *privcmdFile) Map(length int, writable bool) ([]byte, error) {
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	if err := f.x.call("map foreign memory"); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(-1, 0, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err == nil {
		f.x.foreign[unsafe.SliceData(b)] = &foreignMap{mem: b, writable: writable}
	}
	return b, err
}

func (f *privcmdFile) Unmap(b []byte) error {
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	delete(f.x.foreign, unsafe.SliceData(b))
	return unix.Munmap(b)
}

func (f *privcmdFile) Ioctl(req uint32, arg unsafe.Pointer) (int, error) {
	x := f.x
	x.mu.Lock()
	defer x.mu.Unlock()
	switch req {
	case abi.IoctlPrivcmdHypercall:
		h := *(*abi.PrivcmdHypercall)(arg)
		name := callName(x, &h)
		if err := x.call(name); err != nil {
			return -1, err
		}
		if x.denies(&h, name) {
			return -1, syscall.EACCES
		}
		n, errno := x.hypercallOp(h.Op, h.Arg[0], h.Arg[1], h.Arg[2])
		if errno != 0 {
			return -1, errno
		}
		return int(int32(n)), nil // as the kernel truncates it
	case abi.IoctlPrivcmdMmapBatchV2:
		if err := x.call("privcmd mmapbatch_v2"); err != nil {
			return -1, err
		}
		return x.mmapBatch((*abi.PrivcmdMmapBatchV2)(arg))
	case abi.IoctlPrivcmdResource:
		if err := x.call("privcmd mmap_resource"); err != nil {
			return -1, err
		}
		return x.mapResource((*abi.PrivcmdResource)(arg))
	case abi.IoctlPrivcmdDMOp:
		if err := x.call("privcmd dm_op"); err != nil {
			return -1, err
		}
		return x.dmOp((*abi.PrivcmdDMOp)(arg))
	}
	return -1, syscall.ENOTTY
}

// mmapBatch lays the guest's pages over the mapping. What failed stays
// inaccessible, so touching it is as fatal as with the kernel.
func (x *Xen) mmapBatch(a *abi.PrivcmdMmapBatchV2) (int, error) {
	fm := x.mapping(a.Addr)
	if fm == nil || fm.filled || int(a.Num)*abi.PageSize != len(fm.mem) {
		return -1, syscall.EINVAL // the first ioctl covers the whole mapping
	}
	d := x.domains[a.Dom]
	if d == nil {
		return -1, syscall.ESRCH
	}
	fm.filled = true
	gfns := unsafe.Slice((*uint64)(a.Arr), a.Num)
	errs := unsafe.Slice((*int32)(a.Err), a.Num)
	prot := uintptr(unix.PROT_READ)
	if fm.writable {
		prot |= unix.PROT_WRITE
	}
	for i, gfn := range gfns {
		errs[i] = 0
		slot, ok := d.slots[gfn]
		if !ok {
			errs[i] = -int32(syscall.EINVAL)
			continue
		}
		_, _, errno := unix.Syscall6(unix.SYS_MMAP, uintptr(a.Addr)+uintptr(i)*abi.PageSize, abi.PageSize,
			prot, unix.MAP_SHARED|unix.MAP_FIXED, uintptr(d.fd), uintptr(slot)*abi.PageSize)
		if errno != 0 {
			return -1, errno
		}
	}
	return 0, nil
}

// mapping returns privcmd's mapping at addr, or nil.
func (x *Xen) mapping(addr uint64) *foreignMap {
	for p, m := range x.foreign {
		if uint64(uintptr(unsafe.Pointer(p))) == addr {
			return m
		}
	}
	return nil
}

func (x *Xen) dmOp(a *abi.PrivcmdDMOp) (int, error) {
	d := x.domains[a.Dom]
	if d == nil {
		return -1, syscall.ESRCH
	}
	if a.Num != 1 {
		return -1, syscall.EINVAL
	}
	buf := (*abi.PrivcmdDMOpBuf)(a.UBufs)
	if x.inHypercallMemory(uint64(uintptr(buf.UPtr)), 1) {
		return -1, syscall.EFAULT // cannot be pinned
	}
	if buf.Size < uint64(unsafe.Sizeof(abi.DMOp{})) {
		return -1, syscall.EINVAL
	}
	op := (*abi.DMOp)(buf.UPtr)
	if op.Op != abi.DMOpInjectEvent {
		return -1, syscall.EOPNOTSUPP
	}
	if int(op.Inj.VCPU) >= len(d.cpus) {
		return -1, syscall.EINVAL
	}
	d.inject = append(d.inject, op.Inj)
	return 0, nil
}

func (x *Xen) inHypercallMemory(addr, size uint64) bool {
	for _, b := range x.hypercall {
		start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
		if addr >= start && addr-start <= uint64(len(b)) && size <= uint64(len(b))-(addr-start) {
			return true
		}
	}
	return false
}

// memory returns the size bytes of hypercall memory at addr; all else is
// EFAULT, as it may be in Xen.
func (x *Xen) memory(addr uint64, size int) ([]byte, syscall.Errno) {
	if !x.inHypercallMemory(addr, uint64(size)) {
		return nil, syscall.EFAULT
	}
	for _, b := range x.hypercall {
		start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
		if addr >= start && addr-start < uint64(len(b)) {
			return b[addr-start : addr-start+uint64(size)], 0
		}
	}
	return nil, syscall.EFAULT
}

// at returns the T at addr.
func at[T any](x *Xen, addr uint64) (*T, syscall.Errno) {
	var t T
	b, errno := x.memory(addr, int(unsafe.Sizeof(t)))
	if errno != 0 {
		return nil, errno
	}
	if addr%uint64(unsafe.Alignof(t)) != 0 {
		return nil, syscall.EFAULT
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(b))), 0
}
