package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenSerial opens a serial port at 115,200 baud, 8N1, in raw mode without
// flow control.
func OpenSerial(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := setRaw(f); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: %s: %w", name, err), f.Close())
	}
	return f, nil
}

func setRaw(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	err = raw.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, ioctlErr = unix.IoctlGetTermios(int(fd), unix.TCGETS); ioctlErr != nil {
			return
		}
		t.Iflag = 0
		t.Oflag = 0
		t.Lflag = 0
		t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
		t.Ispeed, t.Ospeed = unix.B115200, unix.B115200
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		if ioctlErr = unix.IoctlSetTermios(int(fd), unix.TCSETS, t); ioctlErr == nil {
			// What came in before raw mode was not meant for us.
			ioctlErr = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH)
		}
	})
	return errors.Join(err, ioctlErr)
}
