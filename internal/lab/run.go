package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/govmi/govmi/internal/lab/wire"
)

// Runner runs jobs: a [*Session], or a [*Client] of one in another process.
type Runner interface {
	// Run runs one job to its end. The error is nil if the program ran and ended, whatever its exit status, and wraps a [*Failure] if it
	// did not get that far. With an error the result has what is known. When ctx ends, so does the job.
	Run(ctx context.Context, job *Job) (*Result, error)
	Close() error
}

// Run implements [Runner]. After most failures the session is broken, but not after [ErrJob], [ErrGuestPanic] and the
// [ErrHang] of a job that the agent could end when its time was up.
func (s *Session) Run(ctx context.Context, job *Job) (*Result, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.quit:
		return &Result{Exit: -1}, &Failure{Kind: ErrClosed}
	case <-ctx.Done():
		return &Result{Exit: -1}, ctx.Err()
	}
	res := &Result{Exit: -1}
	if err := s.Broken(); err != nil {
		return res, err
	}
	if len(job.Argv) == 0 {
		return res, &Failure{Kind: ErrJob, Detail: "no command"}
	}
	length, sum, err := writeJob(s.disks[0], job.Files)
	if err != nil {
		return res, &Failure{Kind: ErrJob, Detail: err.Error()}
	}
	s.nextID++
	run := &wire.Run{
		ID: s.nextID, Length: length, Sum: sum, Argv: job.Argv, Env: slices.Concat(job.Env, s.env), Dir: job.Dir, TimeoutMillis: job.Timeout.Milliseconds(),
		Live: job.Stdout != nil || job.Stderr != nil, Stdin: job.Stdin != nil, TTY: job.TTY, Rows: job.Rows, Cols: job.Cols,
		AllowGuestPanic: job.AllowGuestPanic,
	}
	if err := s.send(run); err != nil {
		return res, err
	}
	ended := make(chan struct{})
	defer close(ended)
	if job.Stdin != nil {
		go s.feed(run.ID, job.Stdin, ended)
	}
	done, guest, err := s.supervise(ctx, run.ID, job)
	if done == nil {
		return res, err
	}
	res.Exit, res.Signal, res.DroppedOut = done.Exit, done.Signal, done.DroppedOut
	if err := readResult(s.disks[1], done, job.OutDir, res); err != nil {
		return res, &Failure{Kind: ErrJob, Detail: err.Error(), Console: s.Console()}
	}
	switch {
	case err != nil:
		return res, err
	case guest != nil && !job.AllowGuestPanic:
		return res, guest
	case done.TimedOut:
		return res, &Failure{Kind: ErrHang, Detail: done.Error, Console: s.Console()}
	case done.Error != "":
		return res, &Failure{Kind: ErrJob, Detail: done.Error, Console: s.Console()}
	}
	return res, nil
}

func (s *Session) send(m wire.Message) error {
	if err := s.enc.Encode(m); err != nil {
		select {
		case <-s.ctlEnd:
			return s.fail(s.lost())
		default:
			return s.fail(&Failure{Kind: ErrLost, Detail: err.Error(), Console: s.Console()})
		}
	}
	return nil
}

// feed sends a job's input. It may outlive the job, blocked in a read.
func (s *Session) feed(id uint64, r io.Reader, ended <-chan struct{}) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		select {
		case <-ended:
			return
		default:
		}
		if n > 0 && s.enc.Encode(&wire.Stdin{ID: id, Data: buf[:n]}) != nil {
			return // the port's end is noticed elsewhere
		}
		if err != nil {
			_ = s.enc.Encode(&wire.Stdin{ID: id})
			return
		}
	}
}

// supervise waits for the job's end. Without done the session is broken.
func (s *Session) supervise(ctx context.Context, id uint64, job *Job) (done *wire.Done, guest *Failure, err error) {
	idle := job.Idle
	if idle == 0 {
		idle = defaultIdle
	}
	limit := time.Duration(0)
	if job.Timeout > 0 {
		limit = 3*job.Timeout + time.Minute
	}
	w := s.newWatch(idle, limit)
	defer w.stop()
	stop := context.AfterFunc(ctx, func() { _ = s.enc.Encode(&wire.Signal{ID: id, Signo: int(syscall.SIGTERM)}) })
	defer stop()
	control := make(chan struct{})
	defer close(control)
	go s.control(id, job.Control, control)
	// A cancelled job gets time to end; then the machine is given up.
	wait, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopWait := context.AfterFunc(ctx, func() {
		select {
		case <-control:
		case <-time.After(s.grace):
			cancel()
		}
	})
	defer stopWait()
	for {
		m, err := s.next(wait, w)
		if errors.Is(err, context.Canceled) {
			return nil, nil, s.fail(&Failure{Kind: ErrHang, Detail: "the cancelled job does not end", Console: s.Console()})
		}
		if err != nil {
			return nil, nil, err
		}
		switch m := m.(type) {
		case *wire.Progress:
			s.progress(m.Text)
		case *wire.Alive: // having come is all that it says
		case *wire.Out:
			if m.ID != id {
				continue
			}
			out := job.Stdout
			if m.FD == 2 {
				out = job.Stderr
			}
			if out != nil {
				if _, err := out.Write(m.Data); err != nil {
					return nil, nil, s.fail(&Failure{Kind: ErrJob, Detail: "output: " + err.Error()})
				}
			}
		case *wire.GuestPanic:
			s.progress("the kernel of guest " + m.Domain + " has panicked")
			guest = &Failure{Kind: ErrGuestPanic, Detail: "guest " + m.Domain, Console: m.Tail}
		case *wire.Done:
			if m.ID != id {
				continue // of a job that was given up
			}
			return m, guest, ctx.Err()
		case *wire.Hello:
			return nil, nil, s.fail(&Failure{Kind: ErrLost, Detail: "dom0's agent has started anew", Console: s.Console()})
		default:
			return nil, nil, s.fail(&Failure{Kind: ErrLost, Detail: fmt.Sprintf("%s frame from dom0", m.Kind())})
		}
	}
}

// control passes orders on to the running job.
func (s *Session) control(id uint64, orders <-chan Control, ended <-chan struct{}) {
	for {
		select {
		case o, ok := <-orders:
			if !ok {
				return
			}
			if o.Signal != 0 {
				_ = s.enc.Encode(&wire.Signal{ID: id, Signo: o.Signal})
			} else {
				_ = s.enc.Encode(&wire.WinSize{ID: id, Rows: o.Rows, Cols: o.Cols})
			}
		case <-ended:
			return
		}
	}
}
