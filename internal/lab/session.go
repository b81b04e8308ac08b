package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/govmi/govmi/internal/lab/lane"
	"github.com/govmi/govmi/internal/lab/wire"
)

const (
	defaultIdle = 3 * time.Minute
	// bootIdle is how long a booting machine may be silent: it unpacks and loads without a word.
	bootIdle = 2 * time.Minute
	// lostGrace is how long the console may still explain why the control port broke.
	lostGrace = 1500 * time.Millisecond
	// stopGrace is how long a cancelled job may take to end.
	stopGrace  = 10 * time.Second
	powerGrace = 15 * time.Second
)

// Options of [Start].
type Options struct {
	Lane lane.Lane
	// Boot is what to boot; nil is the default.
	Boot *Boot
	// Progress, if not nil, is told what is going on, for a person who waits. It is called from several goroutines, one at a time.
	Progress func(string)
	// Keep leaves the machine's folder with its console behind, and Progress says where.
	Keep bool
}

// Session is one booted machine. Its jobs run one at a time, in the order in which they come. It is safe for concurrent use.
type Session struct {
	lane     lane.Lane
	env      []string // of every job
	dir      string
	disks    [3]string
	machine  *lane.Machine
	enc      *wire.Encoder
	frames   chan wire.Message
	ctlErr   error         // why frames ended, after ctlEnd
	ctlEnd   chan struct{} // closed when no more frames come
	quit     chan struct{} // closed by Close
	progress func(string)
	hello    wire.Hello
	keep     bool
	core     func()        // gives it back
	grace    time.Duration // of a cancelled job

	turn   chan struct{} // held by the running job
	nextID uint64

	mu     sync.Mutex
	broken error // why no job can run any more
	once   sync.Once
	closed error
}

// Start boots a machine and waits until dom0 takes jobs. ctx governs the start only. The error wraps a [*Failure] if the boot itself failed.
func Start(ctx context.Context, opt Options) (*Session, error) {
	m, err := Make(ctx, opt)
	if err != nil {
		return nil, err
	}
	return m.Start(ctx)
}

func newSession(m *lane.Machine, l lane.Lane, xen, dir string, disks [3]string, progress func(string), keep bool) *Session {
	s := &Session{
		lane: l, dir: dir, disks: disks, machine: m, progress: progress, keep: keep,
		env: []string{wire.LaneVar + "=" + string(l), wire.XenVar + "=" + xen},
		enc: wire.NewEncoder(deadlineWriter{m.Control}), frames: make(chan wire.Message, 64), ctlEnd: make(chan struct{}), quit: make(chan struct{}),
		turn: make(chan struct{}, 1), grace: stopGrace,
	}
	m.Console.OnLine(s.milestone)
	go s.receive()
	return s
}

// deadlineWriter gives up on a machine that takes nothing any more.
type deadlineWriter struct{ c net.Conn }

func (w deadlineWriter) Write(b []byte) (int, error) {
	// A full frame takes six seconds at 115,200 baud, and an emulated clock may be slow.
	if err := w.c.SetWriteDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return 0, err
	}
	return w.c.Write(b)
}

var milestones = []struct {
	re   *regexp.Regexp
	text string
}{
	{regexp.MustCompile(`^\(XEN\) .*Xen version (\S+)`), "Xen $1 is up"},
	{regexp.MustCompile(`^\[ *0\.0+\] Linux version (\S+)`), "dom0's kernel $1 is up"},
	{regexp.MustCompile(`^GOVMI-DOM0-READY`), "Xen's tools are up"},
}

func (s *Session) milestone(line string) {
	for _, m := range milestones {
		if match := m.re.FindStringSubmatchIndex(line); match != nil {
			s.progress(string(m.re.ExpandString(nil, m.text, line, match)))
		}
	}
}

// receive reads the control port until it breaks.
func (s *Session) receive() {
	defer close(s.ctlEnd)
	dec := wire.NewDecoder(s.machine.Control)
	for {
		m, err := dec.Decode()
		if err != nil {
			s.ctlErr = err
			return
		}
		select {
		case s.frames <- m:
		case <-s.quit:
			s.ctlErr = ErrClosed
			return
		}
	}
}

// Lane is the lane of the session.
func (s *Session) Lane() lane.Lane { return s.lane }

// PID is the emulator's process.
func (s *Session) PID() int { return s.machine.PID() }

// Gone is closed when the emulator has ended.
func (s *Session) Gone() <-chan struct{} { return s.machine.Exited() }

// Console returns the last lines of the console of Xen and dom0.
func (s *Session) Console() string { return s.machine.Console.Tail() }

func (s *Session) waitForHello(ctx context.Context) error {
	watch := s.newWatch(bootIdle, 0)
	defer watch.stop()
	for {
		m, err := s.next(ctx, watch)
		if err != nil {
			return fmt.Errorf("lab: boot: %w", err)
		}
		switch m := m.(type) {
		case *wire.Progress:
			s.progress(m.Text)
		case *wire.Hello:
			if m.Version != wire.Version {
				return fmt.Errorf("lab: dom0's agent speaks version %d, want %d", m.Version, wire.Version)
			}
			s.hello = *m
			return nil
		}
	}
}

// watch tells when a machine has been silent for too long, or takes too long.
type watch struct {
	s        *Session
	idle     time.Duration
	deadline time.Time // zero is none
	limit    time.Duration
	frame    time.Time // of the last frame
	tick     *time.Ticker
}

func (s *Session) newWatch(idle, limit time.Duration) *watch {
	w := &watch{s: s, idle: idle, limit: limit, frame: time.Now(), tick: time.NewTicker(min(idle/4, time.Second))}
	if limit > 0 {
		w.deadline = w.frame.Add(limit)
	}
	return w
}

func (w *watch) stop() { w.tick.Stop() }

func (w *watch) check() *Failure {
	last := w.frame
	if c := w.s.machine.Console.LastOutput(); c.After(last) {
		last = c
	}
	detail := ""
	switch {
	case time.Since(last) > w.idle:
		detail = fmt.Sprintf("no sign of life for %v", w.idle)
	case !w.deadline.IsZero() && time.Now().After(w.deadline):
		detail = fmt.Sprintf("no end after %v", w.limit)
	default:
		return nil
	}
	return &Failure{Kind: ErrHang, Detail: detail, Console: w.s.Console()}
}

// next returns the next frame, or the failure that ends the session.
func (s *Session) next(ctx context.Context, w *watch) (wire.Message, error) {
	for {
		select {
		case m := <-s.frames: // what has arrived counts before what has broken
			w.frame = time.Now()
			return m, nil
		default:
		}
		select {
		case m := <-s.frames:
			w.frame = time.Now()
			return m, nil
		case <-s.machine.Console.Failed():
			return nil, s.fail(s.panicked())
		case <-s.ctlEnd:
			if len(s.frames) > 0 {
				continue
			}
			return nil, s.fail(s.lost())
		case <-s.machine.Exited():
			// The port's end follows, and frames before it.
			select {
			case <-s.ctlEnd:
			case <-time.After(lostGrace):
				return nil, s.fail(s.lost())
			}
		case <-s.quit:
			return nil, s.fail(&Failure{Kind: ErrClosed})
		case <-w.tick.C:
			if f := w.check(); f != nil {
				return nil, s.fail(f)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// panicked says what the console has told.
func (s *Session) panicked() *Failure {
	c := s.machine.Console
	return &Failure{Kind: c.Err(), Detail: c.Reason(), Console: c.Tail()}
}

// lost finds out why there is no control port any more.
func (s *Session) lost() *Failure {
	select {
	case <-s.machine.Console.Failed():
	case <-s.quit:
		return &Failure{Kind: ErrClosed}
	case <-time.After(lostGrace):
	}
	if s.machine.Console.Err() != nil {
		return s.panicked()
	}
	detail := "the emulator runs on without its control port"
	select {
	case <-s.machine.Exited():
		detail = "dom0 has powered off"
		if err := s.machine.ExitError(); err != nil {
			detail = "the emulator has ended: " + err.Error()
		}
	default:
		select {
		case <-s.ctlEnd:
			if !errors.Is(s.ctlErr, io.EOF) {
				detail = s.ctlErr.Error()
			}
		default:
		}
	}
	return &Failure{Kind: ErrLost, Detail: detail, Console: s.Console()}
}

// fail marks the session as broken; the first reason stays.
func (s *Session) fail(f *Failure) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = f
	}
	return f
}

// Broken returns why the session can run no more jobs, or nil.
func (s *Session) Broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Close powers dom0 off, or kills the emulator if that takes too long, and removes the machine's files. It is idempotent. A job that still
// runs ends with [ErrClosed].
func (s *Session) Close() error {
	s.once.Do(func() {
		close(s.quit)
		if s.Broken() == nil {
			_ = s.fail(&Failure{Kind: ErrClosed})
			s.powerOff()
		}
		s.closed = s.machine.Close()
		<-s.ctlEnd
		if s.core != nil {
			s.core()
		}
		if !s.keep {
			s.closed = errors.Join(s.closed, os.RemoveAll(s.dir))
		}
	})
	return s.closed
}

// powerOff asks for a clean end. Whatever goes wrong, killing the emulator does as well.
func (s *Session) powerOff() {
	select {
	case s.turn <- struct{}{}:
		// No job: dom0 listens.
	case <-time.After(time.Second):
	}
	if s.enc.Encode(&wire.PowerOff{}) != nil {
		return
	}
	select {
	case <-s.machine.Exited():
	case <-time.After(powerGrace):
	}
}
