package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/govmi/govmi/internal/lab/wire"
)

// Config is an agent's surroundings.
type Config struct {
	// Port is the control port to the host.
	Port io.ReadWriter
	// Job and Result are the disks' tar areas.
	Job    io.ReaderAt
	Result Area
	// WorkDir is where every job gets a folder of its own.
	WorkDir string
	// ConsoleDir holds the guests' console logs, guest-NAME.log.
	ConsoleDir string
	// Hello is sent first.
	Hello wire.Hello
	// AfterFailure, if set, runs after a job that failed, before its Done: it
	// removes what the job may have left behind.
	AfterFailure func(context.Context) error
}

// Area is a result disk's room for the tar.
type Area interface {
	io.WriterAt
	// Size is the room in bytes.
	Size() int64
}

// ErrPowerOff is what [Serve] returns when the host asks for the end.
var ErrPowerOff = errors.New("agent: power-off requested")

type server struct {
	cfg Config
	enc *wire.Encoder

	mu  sync.Mutex
	cur *job
}

// Serve says hello and runs jobs, one at a time, until the host asks for
// power-off or the port fails. It leaves no job running.
func Serve(ctx context.Context, cfg Config) error {
	s := &server{cfg: cfg, enc: wire.NewEncoder(cfg.Port)}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	watch := newConsoleWatch(cfg.ConsoleDir, s.guestPanic)
	wg.Go(func() { watch.run(ctx) })
	if err := s.enc.Encode(&cfg.Hello); err != nil {
		return err
	}
	dec := wire.NewDecoder(cfg.Port)
	for {
		m, err := dec.Decode()
		if err != nil {
			return fmt.Errorf("agent: control port: %w", err)
		}
		switch m := m.(type) {
		case *wire.Run:
			j, err := s.claim(m)
			if err != nil {
				if err := s.enc.Encode(&wire.Done{ID: m.ID, Exit: -1, Error: err.Error()}); err != nil {
					return err
				}
				continue
			}
			wg.Go(func() { s.serveJob(ctx, j) })
		case *wire.Stdin:
			if j := s.current(m.ID); j != nil {
				j.takeInput(m.Data)
			}
		case *wire.Signal:
			if j := s.current(m.ID); j != nil {
				j.signal(syscall.Signal(m.Signo))
			}
		case *wire.WinSize:
			if j := s.current(m.ID); j != nil {
				j.resize(m.Rows, m.Cols)
			}
		case *wire.PowerOff:
			cancel(ErrPowerOff)
			return ErrPowerOff
		default:
			return fmt.Errorf("agent: %s frame from the host", m.Kind())
		}
	}
}

func (s *server) claim(m *wire.Run) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil {
		return nil, fmt.Errorf("agent: job %d is still running", s.cur.run.ID)
	}
	if len(m.Argv) == 0 {
		return nil, errors.New("agent: job without a command")
	}
	s.cur = newJob(m)
	return s.cur, nil
}

func (s *server) current(id uint64) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil || s.cur.run.ID != id {
		return nil // it has just ended
	}
	return s.cur
}

// serveJob runs one job and reports it. Failures to report end up with the
// host anyway, as a lost port.
func (s *server) serveJob(ctx context.Context, j *job) {
	done := s.runJob(ctx, j)
	if !done.OK() && s.cfg.AfterFailure != nil {
		if err := s.cfg.AfterFailure(ctx); err != nil {
			done.Error = errors.Join(stringError(done.Error), err).Error()
		}
	}
	s.mu.Lock()
	s.cur = nil
	s.mu.Unlock()
	s.send(done)
}

func stringError(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

func (s *server) guestPanic(domain, tail string) {
	s.mu.Lock()
	j := s.cur
	s.mu.Unlock()
	m := &wire.GuestPanic{Domain: domain, Tail: tail}
	if j != nil {
		m.ID = j.run.ID
		if !j.run.AllowGuestPanic {
			j.fail(fmt.Errorf("kernel panic in guest %s", domain))
		}
	}
	s.send(m)
}

// send reports to the host; if that fails the port is gone, which Serve's
// decoder notices.
func (s *server) send(m wire.Message) {
	if err := s.enc.Encode(m); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
	}
}
