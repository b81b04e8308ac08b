package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// loadBPF loads a socket filter that drops everything.
func loadBPF(name string) (fd int, err error) {
	const progLoad, socketFilter = 5, 1
	insns := [...]uint64{0xb7, 0x95} // r0 = 0; exit
	license := [...]byte{'G', 'P', 'L', 0}
	// union bpf_attr has addresses as numbers; what they lead to lives until the
	// call returns, as attr refers to it.
	attr := struct {
		progType, count uint32
		insns, license  unsafe.Pointer
		_               [16]byte
		version, flags  uint32
		name            [unix.BPF_OBJ_NAME_LEN]byte
	}{progType: socketFilter, count: uint32(len(insns)), insns: unsafe.Pointer(&insns), license: unsafe.Pointer(&license)}
	copy(attr.name[:], name)
	n, _, errno := unix.Syscall(unix.SYS_BPF, progLoad, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
