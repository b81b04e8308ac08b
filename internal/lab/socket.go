package lab

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// SocketVar is the environment variable that names the socket of a running lab.
const SocketVar = "GOVMI_LAB_SOCKET"

// What goes over the socket, one job a connection: the client sends a remoteJob, the server answers with remoteEvents, of which the last has
// End set. The client ends the job by closing.
type remoteJob struct {
	Argv            []string
	Env             []string
	Dir             string
	Files           []File
	OutDir          string
	Timeout, Idle   time.Duration
	Live            bool
	AllowGuestPanic bool
}

type remoteEvent struct {
	FD      int // 1 or 2: Data is output
	Data    []byte
	End     bool
	Result  Result
	Kind    string // of a failure
	Detail  string
	Console string
	Err     string // another error
}

// Serve runs jobs of other processes with r until l is closed or ctx ends.
func Serve(ctx context.Context, l net.Listener, r Runner) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { serveJob(ctx, c, r) })
	}
}

func serveJob(ctx context.Context, c net.Conn, r Runner) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var req remoteJob
	if err := gob.NewDecoder(c).Decode(&req); err != nil {
		return // nobody to tell
	}
	go func() {
		// The client sends nothing more: this returns when it is gone.
		_, _ = c.Read(make([]byte, 1))
		cancel()
	}()
	s := &eventSender{enc: gob.NewEncoder(c)}
	job := &Job{
		Argv: req.Argv, Env: req.Env, Dir: req.Dir, Files: req.Files, OutDir: req.OutDir,
		Timeout: req.Timeout, Idle: req.Idle, AllowGuestPanic: req.AllowGuestPanic,
	}
	if req.Live {
		job.Stdout, job.Stderr = s.output(1), s.output(2)
	}
	res, err := r.Run(ctx, job)
	last := remoteEvent{End: true, Result: *res}
	var f *Failure
	switch {
	case errors.As(err, &f):
		last.Kind, last.Detail, last.Console = kindName(f.Kind), f.Detail, f.Console
	case err != nil:
		last.Err = err.Error()
	}
	_ = s.send(&last) // a client that is gone does not want it
}

func kindName(kind error) string {
	for name, k := range kinds {
		if errors.Is(kind, k) {
			return name
		}
	}
	return "lost"
}

type eventSender struct {
	mu  sync.Mutex
	enc *gob.Encoder
}

func (s *eventSender) send(ev *remoteEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enc.Encode(ev)
}

type outputSender struct {
	s  *eventSender
	fd int
}

func (s *eventSender) output(fd int) io.Writer { return outputSender{s, fd} }

func (o outputSender) Write(p []byte) (int, error) {
	if err := o.s.send(&remoteEvent{FD: o.fd, Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Client runs jobs in the lab of another process on this machine.
type Client struct{ socket string }

// Dial returns the lab whose socket is named by $GOVMI_LAB_SOCKET, or nil if there is none.
func Dial() *Client {
	if socket := os.Getenv(SocketVar); socket != "" {
		return &Client{socket}
	}
	return nil
}

// Run implements [Runner]. Jobs with input or a terminal are not for other processes.
func (c *Client) Run(ctx context.Context, job *Job) (*Result, error) {
	none := &Result{Exit: -1}
	if job.Stdin != nil || job.TTY || job.Control != nil {
		return none, &Failure{Kind: ErrJob, Detail: "a job with input needs a lab of its own"}
	}
	req, err := newRemoteJob(job)
	if err != nil {
		return none, &Failure{Kind: ErrJob, Detail: err.Error()}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return none, &Failure{Kind: ErrLost, Detail: fmt.Sprintf("%s: %v", SocketVar, err)}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = gob.NewEncoder(conn).Encode(req)
	dec := gob.NewDecoder(conn)
	for err == nil {
		var ev remoteEvent
		if err = dec.Decode(&ev); err != nil {
			break
		}
		if ev.End {
			return ev.end()
		}
		out := job.Stdout
		if ev.FD == 2 {
			out = job.Stderr
		}
		if out != nil {
			_, err = out.Write(ev.Data)
		}
	}
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	return none, &Failure{Kind: ErrLost, Detail: fmt.Sprintf("the lab's process is gone: %v", err)}
}

// newRemoteJob makes paths absolute: the server has a working folder of its own.
func newRemoteJob(job *Job) (*remoteJob, error) {
	req := &remoteJob{
		Argv: job.Argv, Env: job.Env, Dir: job.Dir, Files: slices.Clone(job.Files), OutDir: job.OutDir, Timeout: job.Timeout, Idle: job.Idle,
		Live: job.Stdout != nil || job.Stderr != nil, AllowGuestPanic: job.AllowGuestPanic,
	}
	paths := []*string{&req.OutDir}
	for i := range req.Files {
		paths = append(paths, &req.Files[i].Source)
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		var err error
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func (ev *remoteEvent) end() (*Result, error) {
	switch {
	case ev.Kind != "":
		kind := kinds[ev.Kind]
		if kind == nil {
			kind = ErrLost
		}
		return &ev.Result, &Failure{Kind: kind, Detail: ev.Detail, Console: ev.Console}
	case ev.Err != "":
		return &ev.Result, errors.New(ev.Err)
	}
	return &ev.Result, nil
}

// Close implements [Runner]. The lab is its owner's.
func (c *Client) Close() error { return nil }

var (
	_ Runner = (*Session)(nil)
	_ Runner = (*Client)(nil)
)
