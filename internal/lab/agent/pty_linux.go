package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/lab/wire"
)

// ttyLinger is how long a job's last output is waited for after its end.
const ttyLinger = time.Second

// openPTY returns both ends of a new pseudo terminal.
func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("agent: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, master.Close())
		}
	}()
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("agent: %w", err)
	}
	var number int
	var ioctlErr error
	if err := raw.Control(func(fd uintptr) {
		if ioctlErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctlErr == nil {
			number, ioctlErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil {
		return nil, nil, fmt.Errorf("agent: %w", err)
	}
	if ioctlErr != nil {
		return nil, nil, fmt.Errorf("agent: pseudo terminal: %w", ioctlErr)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("agent: %w", err)
	}
	return master, slave, nil
}

func setSize(tty *os.File, rows, cols uint16) error {
	raw, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	if err := raw.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}); err != nil {
		return err
	}
	return ioctlErr
}

func (s *server) executeTTY(ctx context.Context, j *job, cmd *exec.Cmd, done *wire.Done) error {
	master, slave, err := openPTY()
	if err != nil {
		return err
	}
	if j.run.Rows > 0 && j.run.Cols > 0 {
		if err := setSize(master, j.run.Rows, j.run.Cols); err != nil {
			return errors.Join(fmt.Errorf("agent: %w", err), master.Close(), slave.Close())
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	j.mu.Lock()
	j.tty = master
	j.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, streamChunk)
		for {
			n, err := master.Read(buf)
			if n > 0 {
				s.send(&wire.Out{ID: j.run.ID, FD: 1, Data: buf[:n]})
			}
			if err != nil {
				// EIO is how a terminal ends whose last user is gone.
				if !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
					fmt.Fprintln(os.Stderr, "agent: terminal:", err)
				}
				return
			}
		}
	})
	wg.Go(func() { j.input.pump(master) })
	err = s.supervise(ctx, j, cmd, done)
	j.input.close()
	closeErr := slave.Close()
	// A process that left the job's session may hold the terminal for ever.
	closeErr = errors.Join(closeErr, master.SetDeadline(time.Now().Add(ttyLinger)))
	wg.Wait()
	j.mu.Lock()
	j.tty = nil
	j.mu.Unlock()
	return errors.Join(err, closeErr, master.Close())
}
