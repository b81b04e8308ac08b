//go:build labhost

package lab

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/lane"
)

// These tests boot real machines, in the lane that is faster at it, and break them. They take a minute or two and run on the host:
// go test -tags labhost ./internal/lab

func boot(t *testing.T, b *Boot) *Session {
	t.Helper()
	s, err := Start(t.Context(), Options{Lane: lane.SVM, Boot: b, Progress: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if alive(s.PID()) {
			t.Error("the emulator has outlived its session")
		}
	})
	return s
}

func mustFail(t *testing.T, s *Session, job *Job, want error, text string) {
	t.Helper()
	res, err := s.Run(t.Context(), job)
	if !errors.Is(err, want) {
		t.Fatalf("error %v, result %+v; want %v", err, res, want)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("the error does not show %q: %v", text, err)
	}
	t.Log(err)
}

func shellJob(command string) *Job {
	return &Job{Argv: []string{"sh", "-c", command}, Timeout: 5 * time.Minute, Idle: time.Minute}
}

func TestRealGuestPanicAndHang(t *testing.T) {
	s := boot(t, nil)
	// A guest without a root file system panics.
	spec := guest.Spec{Name: "panics", Cmdline: "rdinit=/nonexistent"}
	config, err := spec.XLConfig(path.Join(guest.KitDir, guest.KernelFile(guest.DefaultKernel)), path.Join(guest.KitDir, guest.Initrd))
	if err != nil {
		t.Fatal(err)
	}
	job := shellJob("xl create guest.cfg && sleep 200")
	job.Files = []File{{Name: "guest.cfg", Data: []byte(config)}}
	mustFail(t, s, job, ErrGuestPanic, "Kernel panic - not syncing")
	// That job's guest is gone and the next job runs.
	res, err := s.Run(t.Context(), shellJob("xl list"))
	if err != nil || res.Exit != 0 || strings.Contains(string(res.Stdout), "panics") {
		t.Fatalf("after a guest's panic: %v, exit status %d, %s%s", err, res.Exit, res.Stdout, res.Stderr)
	}
	mustFail(t, s, &Job{Argv: []string{"sleep", "1000"}, Timeout: 2 * time.Second}, ErrHang, "time is up")
	// dom0 without its agent lives, but there is no sign of that.
	job = shellJob("kill -STOP $(pidof agent)")
	job.Idle = 30 * time.Second
	mustFail(t, s, job, ErrHang, "no sign of life")
}

func TestRealXenPanic(t *testing.T) {
	s := boot(t, &Boot{XenArgs: []string{"nmi=fatal"}})
	mustFail(t, s, shellJob("xl debug-keys N; sleep 200"), ErrXenPanic, "(XEN)")
}

func TestRealDom0Panic(t *testing.T) {
	s := boot(t, nil)
	mustFail(t, s, shellJob("echo c >/proc/sysrq-trigger; sleep 200"), ErrDom0Panic, "Kernel panic - not syncing")
}

// The program that a person interrupts leaves no emulator behind.
func TestRealSignals(t *testing.T) {
	lab := filepath.Join(t.TempDir(), "lab")
	if out, err := exec.Command("go", "build", "-o", lab, "./cmd/lab").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, lab, "run", "-lane", "svm", "-quiet", "--", "sh", "-c", "echo running; sleep 1000")
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "running\n" {
				t.Fatalf("%q, %v", line, err)
			}
			emulators := children(t, cmd.Process.Pid)
			if len(emulators) == 0 {
				t.Fatal("no emulator runs")
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status <= 0 {
				t.Errorf("the lab ended with %v, want an exit status other than 0", err)
			}
			for _, pid := range emulators {
				if running(pid) {
					t.Errorf("emulator %d still runs", pid)
				}
			}
		})
	}
}

// children returns the children of a process.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		for _, field := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

// Machines that are made alike are told to be the same, and no others.
func TestRealDigest(t *testing.T) {
	digest := func(o Options) string {
		t.Helper()
		m, err := Make(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.Digest(t.Context())
		if err := errors.Join(err, m.Close()); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest(Options{Lane: lane.SVM})
	if again := digest(Options{Lane: lane.SVM}); again != first {
		t.Errorf("the same machine has the digests %s and %s", first, again)
	}
	for _, o := range []Options{
		{Lane: lane.SVM, Boot: &Boot{XenArgs: []string{"flask=permissive"}}},
		{Lane: lane.SVM, Boot: &Boot{CPUs: 1}},
		{Lane: lane.SVM, Boot: &Boot{Programs: []string{"./examples/ps"}}},
	} {
		if other := digest(o); other == first {
			t.Errorf("%+v has the digest of another machine", o)
		}
	}
}
