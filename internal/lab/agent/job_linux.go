package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/govmi/govmi/internal/lab/wire"
)

// killGrace is how long a job may take to end after SIGTERM.
const killGrace = 5 * time.Second

// alivePeriod is in dom0's time, which an emulator may stretch several times.
const alivePeriod = 10 * time.Second

type job struct {
	run   *wire.Run
	input *input

	mu      sync.Mutex
	group   int // process group, 0 before start and after the end
	ended   bool
	pending []syscall.Signal // signals that came before the start
	failed  error
	failCh  chan struct{}
	tty     *os.File
}

func newJob(m *wire.Run) *job {
	return &job{run: m, input: newInput(), failCh: make(chan struct{})}
}

// fail ends the job for the reason given; the first reason counts.
func (j *job) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = err
		close(j.failCh)
	}
}

func (j *job) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// signal goes to the job's process group; a job that has ended takes none.
func (j *job) signal(sig syscall.Signal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.group != 0:
		_ = syscall.Kill(-j.group, sig) // gone already is fine
	case !j.ended:
		j.pending = append(j.pending, sig)
	}
}

func (j *job) started(group int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.group = group
	for _, sig := range j.pending {
		_ = syscall.Kill(-group, sig) // gone already is fine
	}
}

// finish ends what the job may have left behind.
func (j *job) finish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = syscall.Kill(-j.group, syscall.SIGKILL) // mostly there is nobody left
	j.group, j.ended = 0, true
}

// takeInput adds to the job's input; no data ends it, except a terminal's.
func (j *job) takeInput(data []byte) {
	if len(data) == 0 {
		if !j.run.TTY {
			j.input.close()
		}
		return
	}
	if err := j.input.add(data); err != nil {
		j.fail(err)
	}
}

func (j *job) resize(rows, cols uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tty != nil {
		_ = setSize(j.tty, rows, cols) // a wrong size is no reason to fail
	}
}

var errTimeUp = errors.New("time is up")

func (s *server) runJob(ctx context.Context, j *job) *wire.Done {
	done := &wire.Done{ID: j.run.ID, Exit: -1}
	dir := filepath.Join(s.cfg.WorkDir, fmt.Sprintf("job%d", j.run.ID))
	err := s.runIn(ctx, j, dir, done)
	if err != nil {
		done.Error, done.TimedOut = err.Error(), errors.Is(err, errTimeUp)
	}
	if err := os.RemoveAll(dir); err != nil && done.Error == "" {
		done.Error = err.Error()
	}
	return done
}

func (s *server) runIn(ctx context.Context, j *job, dir string, done *wire.Done) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o755); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := s.unpack(j.run, dir); err != nil {
		return err
	}
	captured, runErr := s.execute(ctx, j, dir, done)
	var resultErr error
	if captured != nil {
		done.Length, done.Sum, resultErr = writeResult(s.cfg.Result, dir, captured)
	}
	return errors.Join(runErr, resultErr)
}

func (s *server) unpack(m *wire.Run, dir string) error {
	if m.Length == 0 {
		return nil
	}
	sum := wire.NewSum()
	tarball := io.TeeReader(bufio.NewReaderSize(io.NewSectionReader(s.cfg.Job, 0, m.Length), diskRead), sum)
	if err := Unpack(tarball, dir); err != nil {
		return fmt.Errorf("agent: job disk: %w", err)
	}
	if _, err := io.Copy(io.Discard, tarball); err != nil {
		return fmt.Errorf("agent: job disk: %w", err)
	}
	if got := sum.Sum32(); got != m.Sum {
		return fmt.Errorf("agent: job disk: checksum is %08x, announced was %08x", got, m.Sum)
	}
	return nil
}

// execute runs the command. The returned names of captured files are nil if
// it did not start.
func (s *server) execute(ctx context.Context, j *job, dir string, done *wire.Done) ([]string, error) {
	workDir := filepath.Join(dir, filepath.FromSlash(j.run.Dir))
	if j.run.Dir != "" && !filepath.IsLocal(filepath.FromSlash(j.run.Dir)) {
		return nil, fmt.Errorf("agent: folder %q leaves the job's own", j.run.Dir)
	}
	cmd := &exec.Cmd{
		Args:        j.run.Argv,
		Dir:         workDir,
		Env:         append(os.Environ(), append([]string{"GOVMI_LAB_OUT=" + filepath.Join(dir, "out"), "PWD=" + workDir}, j.run.Env...)...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	var err error
	if cmd.Path, err = lookPath(j.run.Argv[0], workDir); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if j.run.TTY {
		return []string{}, s.executeTTY(ctx, j, cmd, done)
	}
	captured := []string{"stdout", "stderr"}
	var files []*os.File
	for _, name := range captured {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		defer f.Close()
		files = append(files, f)
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	if j.run.Stdin {
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer j.input.close()
		wg.Go(func() {
			j.input.pump(stdin)
			_ = stdin.Close() // closed already when the job has ended
		})
	}
	var live *stream
	if j.run.Live {
		live = startStream(s.send, j.run.ID, files)
	}
	err = s.supervise(ctx, j, cmd, done)
	if live != nil {
		done.DroppedOut = live.stop()
	}
	return captured, err
}

func lookPath(name, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	return exec.LookPath(name)
}

// supervise starts cmd and waits for its end, ending it when its time is up,
// the agent stops, or it has failed for another reason.
func (s *server) supervise(ctx context.Context, j *job, cmd *exec.Cmd, done *wire.Done) error {
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("agent: start: %w", err)
	}
	j.started(cmd.Process.Pid)
	var timeout <-chan time.Time
	if j.run.TimeoutMillis > 0 {
		timer := time.NewTimer(time.Duration(j.run.TimeoutMillis) * time.Millisecond)
		defer timer.Stop()
		timeout = timer.C
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.sayAlive(j.run.ID, ended) })
	wg.Go(func() {
		select {
		case <-ended:
			return
		case <-timeout:
			j.fail(fmt.Errorf("%w after %v", errTimeUp, time.Duration(j.run.TimeoutMillis)*time.Millisecond))
		case <-ctx.Done():
			j.fail(context.Cause(ctx))
		case <-j.failCh:
		}
		j.signal(syscall.SIGTERM)
		timer := time.NewTimer(killGrace)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			j.signal(syscall.SIGKILL)
		}
	})
	err := cmd.Wait()
	close(ended)
	wg.Wait()
	j.finish()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		done.Signal = int(status.Signal())
	case ok && status.Exited():
		done.Exit = status.ExitStatus()
	}
	if failed := j.failure(); failed != nil {
		return failed
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

func (s *server) sayAlive(id uint64, ended <-chan struct{}) {
	tick := time.NewTicker(alivePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			s.send(&wire.Alive{ID: id})
		}
	}
}
