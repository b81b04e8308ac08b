package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/lab"
)

type terminal struct{ fd int }

func openTerminal(f *os.File) (*terminal, error) {
	t := &terminal{int(f.Fd())}
	_, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	return t, err
}

func (t *terminal) size() (rows, cols uint16) {
	w, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ)
	if err != nil {
		return 24, 80
	}
	return w.Row, w.Col
}

// raw passes every key on, interrupts included, and reports changes of the size until restore.
func (t *terminal) raw(control chan<- lab.Control) (restore func() error, err error) {
	old, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	mode := *old
	mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	mode.Oflag &^= unix.OPOST
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETS, &mode); err != nil {
		return nil, err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-resized:
				rows, cols := t.size()
				select {
				case control <- lab.Control{Rows: rows, Cols: cols}:
				case <-done:
					return
				}
			case <-done:
				return
			}
		}
	}()
	return func() error {
		signal.Stop(resized)
		close(done)
		return unix.IoctlSetTermios(t.fd, unix.TCSETS, old)
	}, nil
}
