package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func startFake(t *testing.T, behaviour string) *Session {
	t.Helper()
	s, err := fakeSession(t.Context(), t.TempDir(), behaviour, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Every way in which a lab can end without its word is a failure, which names the reason and shows the console, and no job runs afterwards.
func TestSessionFailsClosed(t *testing.T) {
	for _, tt := range []struct {
		behaviour string
		want      error
		text      []string
	}{
		{"xen panics", ErrXenPanic, []string{"Panic on CPU 1", "the reason"}},
		{"dom0 panics", ErrDom0Panic, []string{"sysrq triggered crash", "the stack goes on and on"}},
		{"dom0 ends", ErrDom0Init, []string{"agent ended with status 1"}},
		{"dom0 powers off", ErrLost, []string{"dom0 has powered off", "GOVMI-DOM0-READY"}},
		{"emulator dies", ErrLost, []string{"exit status 1", "assertion failed", "GOVMI-DOM0-READY"}},
		{"port closes", ErrLost, []string{"without its control port", "GOVMI-DOM0-READY"}},
		{"port garbles", ErrLost, []string{"corrupt frame", "tsc: marked unstable", "GOVMI-DOM0-READY"}},
		{"agent starts anew", ErrLost, []string{"started anew"}},
		{"hangs", ErrHang, []string{"no sign of life", "GOVMI-DOM0-READY"}},
	} {
		t.Run(tt.behaviour, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, tt.behaviour)
			job := &Job{Argv: []string{"x"}}
			if tt.behaviour == "hangs" {
				job.Idle = 200 * time.Millisecond
			}
			res, err := s.Run(t.Context(), job)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			for _, text := range tt.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the error does not say %q: %v", text, err)
				}
			}
			if res == nil || res.Exit != -1 {
				t.Errorf("result %+v, want exit status -1", res)
			}
			if _, err := s.Run(t.Context(), job); !errors.Is(err, tt.want) {
				t.Errorf("another job: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestBootFailsClosed(t *testing.T) {
	for _, tt := range []struct {
		behaviour string
		want      error
		text      string
	}{
		{"boot: xen panics", ErrXenPanic, "the reason"},
		{"boot: dom0 fails", ErrDom0Init, "no xenfs"},
		{"boot: exits", ErrLost, "no firmware"},
		{"boot: other version", nil, "version"},
	} {
		t.Run(tt.behaviour, func(t *testing.T) {
			t.Parallel()
			s, err := fakeSession(t.Context(), t.TempDir(), tt.behaviour, func(string) {})
			if err == nil {
				t.Fatal("the boot succeeded", s.Close())
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// A job may fail without harm to the next.
func TestJobFailsSessionStays(t *testing.T) {
	for _, tt := range []struct {
		behaviour string
		job       Job
		want      error
		text      string
	}{
		{"job fails", Job{}, ErrJob, "no such program"},
		{"time is up", Job{}, ErrHang, "after 1s"},
		{"guest panics", Job{}, ErrGuestPanic, "Attempted to kill init"},
		{"result damaged", Job{}, ErrJob, "checksum"},
		{"result outside", Job{}, ErrJob, "leaves its folder"},
		{"guest writes about panic", Job{}, nil, ""},
		{"job fails", Job{Files: []File{{Name: "../x", Data: []byte("x")}}}, ErrJob, "leaves the job's folder"},
		{"job fails", Job{Files: []File{{Name: "big", Data: make([]byte, 1<<20)}}}, ErrJob, "do not fit"},
		{"job fails", Job{Files: []File{{Name: "none", Source: "/nonexistent"}}}, ErrJob, "/nonexistent"},
	} {
		t.Run(tt.behaviour, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, tt.behaviour)
			job := tt.job
			job.Argv = []string{"x"}
			for range 2 {
				_, err := s.Run(t.Context(), &job)
				if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
					t.Fatalf("error %v, want %v with %q", err, tt.want, tt.text)
				}
			}
			if s.Broken() != nil {
				t.Errorf("the session is broken: %v", s.Broken())
			}
		})
	}
}

func TestRunRoundTrip(t *testing.T) {
	s := startFake(t, "echoes")
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, []byte("from a file"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	var live bytes.Buffer
	res, err := s.Run(t.Context(), &Job{
		Argv: []string{"x"}, Env: []string{"A=b", "GOVMI_LAB_LANE=x"}, OutDir: out, Stdout: &live,
		Files: []File{{Name: "stdout", Data: []byte("all of it")}, {Name: "out/a/b", Source: src}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Result{Exit: 7, Stdout: []byte("all of it")}, res); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	// Of two settings of a variable the last counts.
	if diff := cmp.Diff("A=b GOVMI_LAB_LANE=x GOVMI_LAB_LANE=svm GOVMI_LAB_XEN=patched", live.String()); diff != "" {
		t.Errorf("the job's environment, as live output (-want +got):\n%s", diff)
	}
	got, err := os.ReadFile(filepath.Join(out, "out/a/b"))
	if err != nil || string(got) != "from a file" {
		t.Errorf("file brought back: %q, %v", got, err)
	}
}

func TestCancel(t *testing.T) {
	s := startFake(t, "cancelled")
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := time.AfterFunc(50*time.Millisecond, cancel)
	defer cancelled.Stop()
	if _, err := s.Run(ctx, &Job{Argv: []string{"x"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if s.Broken() != nil {
		t.Errorf("the session is broken: %v", s.Broken())
	}
}

func TestCloseEndsJob(t *testing.T) {
	s := startFake(t, "hangs")
	time.AfterFunc(50*time.Millisecond, func() { s.Close() })
	if _, err := s.Run(t.Context(), &Job{Argv: []string{"x"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want %v", err, ErrClosed)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if alive(s.PID()) {
		t.Error("the emulator has outlived its session")
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// However the lab's process ends, its emulator ends with it.
func TestNoEmulatorIsLeftBehind(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), parentVar+"="+t.TempDir())
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || !alive(pid) {
				t.Fatalf("emulator %q: %v", line, err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); sig == syscall.SIGKILL != status.Signaled() {
				t.Errorf("the lab ended with %v", err)
			}
			// A killed process's children are ended by the kernel, and reaped by whoever inherits them.
			for range 500 {
				if !running(pid) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Error("the emulator still runs")
		})
	}
}

// running tells a process that runs from one that waits to be reaped.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
