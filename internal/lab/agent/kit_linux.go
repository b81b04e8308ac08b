package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/lab/wire"
)

// MountKit mounts the kit disk's file system on dir and closes the disk. It is
// not unpacked, because few files of it are used in most boots and every byte
// costs time under an emulator. It stays mounted until dom0's end.
func MountKit(disk *Disk, dir string) (err error) {
	name := disk.name
	if err := disk.Close(); err != nil {
		return fmt.Errorf("agent: kit: %w", err)
	}
	device, err := loopDevice(name)
	if err != nil {
		return fmt.Errorf("agent: kit: %w", err)
	}
	if err := unix.Mount(device, dir, "romfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("agent: mount kit: %w", err)
	}
	return nil
}

// loopDevice returns a device that shows a disk's content without its header.
func loopDevice(disk string) (name string, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", fmt.Errorf("free loop device: %w", err)
	}
	name = fmt.Sprintf("/dev/loop%d", n)
	loop, err := os.OpenFile(name, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, loop.Close()) }()
	back, err := os.OpenFile(disk, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, back.Close()) }()
	config := unix.LoopConfig{Fd: uint32(back.Fd())}
	config.Info.Offset = wire.DiskDataOffset
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return name, nil
}
