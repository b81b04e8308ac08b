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
func Start(ctx context.Context, cacheDir string, spec *Spec, progress func(string)) (_ *Machine, err error) {
	s := spec.withDefaults()
	if err := checkArgs(append(s.xenArgs(), s.kernelArgs()...)); err != nil {
		return nil, err
	}
	t, err := prepare(ctx, cacheDir, s.Lane, progress)
	if err != nil {
		return nil, err
	}
	// Bochs connects to TCP only.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lane: control port: %w", err)
	}
	defer l.Close()
	var argv []string
	switch s.Lane {
	case VMX:
		argv, err = bochs(&s, t, l.Addr().String())
	case SVM:
		argv, err = qemu(&s, t, l.Addr().String())
	}
	if err != nil {
		return nil, fmt.Errorf("lane %s: %w", s.Lane, err)
	}
	return start(ctx, l.(*net.TCPListener), argv, s.Dir)
}

// start runs an emulator that will connect to l.
func start(ctx context.Context, l *net.TCPListener, argv []string, dir string) (_ *Machine, err error) {
	if err := os.WriteFile(ConsoleFile(dir), nil, 0o644); err != nil {
		return nil, err
	}
	m := &Machine{}
	m.proc, err = startProcess(argv, dir, filepath.Join(dir, "emulator.log"))
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
			return nil, errors.Join(fmt.Errorf("lane: emulator ended at once: %w", m.ExitError()), m.Close())
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
