package lane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Machine is a running emulator.
type Machine struct {
	// Control is dom0's second serial port, raw.
	Control net.Conn
	// Console watches the first one.
	Console *Console

	proc *process
	stop func()
	once sync.Once
}

// Start boots the machine and returns as soon as the emulator runs. ctx governs the start only. progress may be nil.
func Start(ctx context.Context, cacheDir string, spec *Spec, progress func(string)) (*Machine, error) {
	s := spec.withDefaults()
	if s.CPUs < 1 {
		return nil, fmt.Errorf("lane: a machine of %d CPUs: it takes 1, or 2 in lane %s", s.CPUs, SVM)
	}
	if err := checkArgs(append(s.xenArgs(), s.kernelArgs()...)); err != nil {
		return nil, err
	}
	t, err := prepare(ctx, cacheDir, s.Lane, progress)
	if err != nil {
		return nil, err
	}
	return Launch(ctx, s.Dir, func(control string) (argv []string, err error) {
		switch s.Lane {
		case VMX:
			argv, err = bochs(&s, t, control)
		case SVM:
			argv, err = qemu(&s, t, control)
		}
		if err != nil {
			return nil, fmt.Errorf("lane %s: %w", s.Lane, err)
		}
		return argv, nil
	})
}

// Launch runs an emulator whose command line is given by argv. It must connect its second serial port to the address control, and write the
// first one to [ConsoleFile] of dir, the folder that it runs in.
func Launch(ctx context.Context, dir string, argv func(control string) ([]string, error)) (_ *Machine, err error) {
	// Bochs connects to TCP only.
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lane: control port: %w", err)
	}
	defer tcp.Close()
	l := tcp.(*net.TCPListener)
	command, err := argv(l.Addr().String())
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(ConsoleFile(dir), nil, 0o644); err != nil {
		return nil, err
	}
	m := &Machine{}
	m.proc, err = startProcess(command, dir, filepath.Join(dir, "emulator.log"))
	if err != nil {
		return nil, err
	}
	watchCtx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.Console = newConsole(watchCtx, ConsoleFile(dir))
	for {
		if err := l.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return nil, errors.Join(err, m.Close())
		}
		conn, err := l.Accept()
		if err == nil {
			m.Control = conn
			return m, nil
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			return nil, errors.Join(fmt.Errorf("lane: control port: %w", err), m.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), m.Close())
		case <-m.proc.exited:
			return nil, errors.Join(errors.New("lane: the emulator ended at once"), m.ExitError(), m.Close())
		default:
		}
	}
}

// Exited is closed when the emulator has ended.
func (m *Machine) Exited() <-chan struct{} { return m.proc.exited }

// ExitError says how the emulator ended, with the last of what it printed; nil for a clean power-off. It waits for the end.
func (m *Machine) ExitError() error {
	<-m.proc.exited
	return m.proc.err
}

// PID is the emulator's process.
func (m *Machine) PID() int { return m.proc.pid }

// Close kills the emulator if it still runs, and waits for its end. It is idempotent.
func (m *Machine) Close() error {
	var err error
	m.once.Do(func() {
		err = m.proc.kill()
		m.stop()
		<-m.Console.done
		if m.Control != nil {
			err = errors.Join(err, m.Control.Close())
		}
	})
	return err
}
