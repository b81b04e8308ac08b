package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scripted is a Runner that answers with what it is told.
type scripted struct {
	job  *Job
	live string
	res  Result
	err  error
	wait bool // until the context ends
}

func (s *scripted) Run(ctx context.Context, job *Job) (*Result, error) {
	s.job = job
	if job.Stdout != nil {
		if _, err := job.Stdout.Write([]byte(s.live)); err != nil {
			return &s.res, err
		}
	}
	if s.wait {
		<-ctx.Done()
		return &s.res, ctx.Err()
	}
	return &s.res, s.err
}

func (s *scripted) Close() error { return nil }

func TestRunTestFailsClosed(t *testing.T) {
	const pass = "=== RUN   TestX\n--- PASS: TestX (0.00s)\nPASS\n"
	hang := &Failure{Kind: ErrHang, Console: "the console's tail"}
	for _, tt := range []struct {
		name   string
		runner scripted
		status int
		err    error
	}{
		{"passed", scripted{res: Result{Stdout: []byte(pass)}}, 0, nil},
		{"failed", scripted{res: Result{Exit: 1, Stdout: []byte("FAIL\n")}}, 1, nil},
		{"status 6", scripted{res: Result{Exit: 6, Stdout: []byte(pass)}}, 6, nil},
		{"silent", scripted{}, 0, ErrNoVerdict},
		{"no PASS", scripted{res: Result{Stdout: []byte("hello\n")}}, 0, ErrNoVerdict},
		{"PASS only in the middle", scripted{res: Result{Stdout: []byte("PASS\n1\n2\n3\n4\n")}}, 0, ErrNoVerdict},
		{"no tests", scripted{res: Result{Stdout: []byte("PASS\n"), Stderr: []byte("testing: warning: no tests to run\n")}}, 0, ErrEmpty},
		{"killed", scripted{res: Result{Signal: 9, Stdout: []byte(pass)}}, -1, ErrJob},
		{"hang after PASS", scripted{res: Result{Exit: -1, Stdout: []byte(pass)}, err: hang}, -1, ErrHang},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, msg bytes.Buffer
			status, err := RunTest(t.Context(), &tt.runner, &TestBinary{Path: "/x/y.test", Dir: t.TempDir(), Stdout: &out, Stderr: &msg})
			if status != tt.status || !errors.Is(err, tt.err) {
				t.Errorf("status %d, error %v; want %d, %v", status, err, tt.status, tt.err)
			}
			if out.String() != string(tt.runner.res.Stdout) {
				t.Errorf("output %q", out.String())
			}
		})
	}
}

func TestRunTestShowsWhatTheLineDropped(t *testing.T) {
	var out, msg bytes.Buffer
	r := &scripted{live: "one\n", res: Result{Stdout: []byte("one\ntwo\nPASS\n")}}
	if _, err := RunTest(t.Context(), r, &TestBinary{Path: "y.test", Dir: t.TempDir(), Stdout: &out, Stderr: &msg, Live: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "one\ntwo\nPASS\n") {
		t.Errorf("output %q", out.String())
	}
}

func TestRunTestJob(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "testdata", "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "testdata", "a", "b"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := &scripted{res: Result{Stdout: []byte("PASS\n")}}
	var out bytes.Buffer
	tb := &TestBinary{
		Path: "/tmp/x/y.test", Dir: dir, Stdout: &out, Stderr: &out, Env: []string{"GOVMI_SOAK=1"},
		Args: []string{"-test.testlogfile=/t", "-test.timeout=10m0s", "-test.run=X"},
	}
	if _, err := RunTest(t.Context(), r, tb); err != nil {
		t.Fatal(err)
	}
	want := &Job{
		Argv: []string{"./y.test", "-test.timeout=10m0s", "-test.run=X"}, Dir: "package", Env: []string{"GOVMI_SOAK=1"}, Timeout: 11 * time.Minute,
		Files: []File{
			{Name: "package/y.test", Source: "/tmp/x/y.test", Mode: 0o755},
			{Name: "package/testdata/a/b", Source: filepath.Join(dir, "testdata", "a", "b")},
		},
	}
	if diff := cmp.Diff(want, r.job); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	tb.Args = []string{"-test.coverprofile=c.out"}
	if _, err := RunTest(t.Context(), r, tb); err == nil {
		t.Error("a coverage profile that cannot come back was accepted")
	}
}

func serve(t *testing.T, r Runner) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "lab")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), l, r) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Setenv(SocketVar, socket)
	return Dial()
}

func TestSocket(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    scripted
	}{
		{"nothing to say", scripted{}},
		{"a result", scripted{live: "live", res: Result{Exit: 3, Stdout: []byte("o"), Stderr: []byte("e"), DroppedOut: 7}}},
		{"a failure", scripted{res: Result{Exit: -1}, err: &Failure{Kind: ErrXenPanic, Detail: "d", Console: "c"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, &tt.r)
			var live bytes.Buffer
			sent := &Job{
				Argv: []string{"p", "a"}, Env: []string{"A=b"}, Dir: "d", Timeout: time.Minute, Stdout: &live,
				Files: []File{{Name: "n", Data: []byte("x"), Mode: 0o700}},
			}
			res, err := c.Run(t.Context(), sent)
			if diff := cmp.Diff(&tt.r.res, res); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			var f *Failure
			if want, ok := tt.r.err.(*Failure); ok != errors.As(err, &f) || ok && (*f != *want) {
				t.Errorf("error %v, want %v", err, tt.r.err)
			}
			if live.String() != tt.r.live {
				t.Errorf("live output %q, want %q", live.String(), tt.r.live)
			}
			if got := tt.r.job; !slices.Equal(got.Argv, sent.Argv) || !slices.Equal(got.Env, sent.Env) || got.Dir != sent.Dir || got.Timeout != sent.Timeout {
				t.Errorf("job %+v", got)
			}
		})
	}
}

func TestSocketCancel(t *testing.T) {
	r := &scripted{wait: true}
	c := serve(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Run(ctx, &Job{Argv: []string{"sleep"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestSocketGone(t *testing.T) {
	c := &Client{filepath.Join(t.TempDir(), "none")}
	if _, err := c.Run(t.Context(), &Job{Argv: []string{"x"}}); !errors.Is(err, ErrLost) {
		t.Errorf("error %v, want %v", err, ErrLost)
	}
}

func TestRemotePathsAreAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	job := &Job{OutDir: "out", Files: []File{{Name: "a", Source: "b"}, {Name: "c", Data: []byte("d")}}}
	req, err := newRemoteJob(job)
	if err != nil {
		t.Fatal(err)
	}
	want := []File{{Name: "a", Source: filepath.Join(wd, "b")}, {Name: "c", Data: []byte("d")}}
	if diff := cmp.Diff(want, req.Files); diff != "" || req.OutDir != filepath.Join(wd, "out") {
		t.Errorf("out folder %s, files (-want +got):\n%s", req.OutDir, diff)
	}
	if job.Files[0].Source != "b" {
		t.Error("the caller's job was changed")
	}
}
