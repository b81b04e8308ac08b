package lane

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is an emulator in a process group of its own, which dies with this program however that ends.
type process struct {
	pid    int
	exited chan struct{}
	err    error // after exited
}

func startProcess(argv []string, dir, logName string) (*process, error) {
	log, err := os.Create(logName)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread ends that started the process, so that thread must stay until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = exitError(cmd.Wait(), logName)
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("lane: start emulator: %w", err)
	}
	return p, nil
}

func exitError(err error, logName string) error {
	if err == nil {
		return nil
	}
	out, readErr := os.ReadFile(logName)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	out = bytes.TrimSpace(out)
	return fmt.Errorf("%w: %s", err, out[max(0, len(out)-2000):])
}

// kill ends the process group and waits for the process.
func (p *process) kill() error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := syscall.Kill(-p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("lane: kill emulator: %w", err)
	}
	<-p.exited
	return nil
}
