//go:build strace && linux && amd64

package strace

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the recordings in testdata")

// The environment is part of what a program's calls look like.
var testEnv = []string{"PATH=/usr/bin:/bin", "LANG=C", "HOME=/"}

const addrNoRandomize = 0x40000

// programs are what is run once under strace and once under our own ptrace.
// Names ending in .c are compiled from testdata first.
var programs = []struct {
	name string
	argv []string
}{
	{"calls", []string{"calls.c"}},
	{"flags", []string{"flags.c"}},
	{"ls", []string{"/bin/ls", "-l", "/etc/hostname", "/usr"}},
	{"cat", []string{"/bin/cat", "/etc/hostname"}},
	{"bash", []string{"/bin/bash", "-c", "read x < /etc/hostname; echo $x > out; cd /; pwd; trap 'echo t' USR1; kill -USR1 $$"}},
	{"dd", []string{"/bin/dd", "if=/dev/zero", "of=out", "bs=100", "count=3", "status=none"}},
	{"sleep", []string{"/bin/sleep", "0.01"}},
}

// TestAgainstStrace runs programs under strace and under this package's
// decoder and compares their lines. It needs strace and gcc, and with -update
// records the calls for the ordinary tests.
func TestAgainstStrace(t *testing.T) {
	src, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, prog := range programs {
		t.Run(prog.name, func(t *testing.T) {
			runtime.LockOSThread() // ptrace and personality are per thread
			if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, addrNoRandomize, 0, 0); errno != 0 {
				t.Fatal(errno)
			}
			dir := t.TempDir()
			t.Chdir(dir)
			argv := append([]string(nil), prog.argv...)
			if c, ok := strings.CutSuffix(argv[0], ".c"); ok {
				argv[0] = filepath.Join(dir, c)
				if out, err := exec.Command("gcc", "-w", "-o", argv[0], filepath.Join(src, prog.argv[0])).CombinedOutput(); err != nil {
					t.Fatalf("gcc: %v\n%s", err, out)
				}
			}
			want, wantPID := runStrace(t, argv)
			// Both runs must find the same, empty directory.
			for _, f := range []string{"out", "tmpf", "tmpg"} {
				os.Remove(f)
			}
			r := runPtrace(t, argv)
			r.StracePIDs = append(childPIDs(want), wantPID)
			if len(want) == 0 || len(want) != len(r.Calls) {
				for i := range min(len(want), len(r.Calls)) {
					got := line(NewDecoder(nil), &r.Calls[i], r.Calls[i].Entry, r.Calls[i].Exit)
					if !strings.HasPrefix(got, want[i][:strings.IndexByte(want[i], '(')]) {
						t.Fatalf("runs part at call %d: strace %q, ours %q", i, want[i], got)
					}
				}
				t.Fatalf("strace shows %d calls, ours %d", len(want), len(r.Calls))
			}
			d := NewDecoder(nil)
			bad := 0
			for i := range r.Calls {
				rc := &r.Calls[i]
				rc.Want = want[i]
				got := line(d, rc, rc.Entry, rc.Exit)
				if g, w := normalize(got, r.PIDs), normalize(want[i], r.StracePIDs); g != w {
					bad++
					t.Errorf("call %d\nstrace %s\nours   %s", i, w, g)
				}
			}
			t.Logf("%d calls compared, %d differ", len(r.Calls), bad)
			if *update && !t.Failed() {
				if err := r.save(filepath.Join(src, prog.name+".calls.gz")); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

var forks = regexp.MustCompile(`^(?:getppid|v?fork|clone3?)\(.* = (\d+)$`)

func childPIDs(lines []string) (pids []int) {
	for _, l := range lines {
		if m := forks.FindStringSubmatch(l); m != nil {
			n, _ := strconv.Atoi(m[1])
			pids = append(pids, n)
		}
	}
	return pids
}

// runStrace returns strace's lines for the calls of argv, without the execve
// that started it.
func runStrace(t *testing.T, argv []string) ([]string, int) {
	t.Helper()
	const file = "strace.out"
	defer os.Remove(file)
	cmd := exec.Command("strace", append([]string{"-a1", "-o", file}, argv...)...)
	cmd.Env = testEnv
	if err := cmd.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	pid := 0
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSuffix(l, "\n")
		if m := regexp.MustCompile(`^(?:getpid|gettid|set_tid_address)\(.*\) = (\d+)$`).FindStringSubmatch(l); m != nil {
			pid, _ = strconv.Atoi(m[1])
		}
		if !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "+++") {
			lines = append(lines, l)
		}
	}
	return lines[1:], pid
}

// recorder reads a process's memory and keeps what it read.
type recorder struct {
	pid  int
	read memorySlices
}

func (r *recorder) Read(addr uint64, p []byte) (int, error) {
	n, err := unix.ProcessVMReadv(r.pid, []unix.Iovec{{Base: &p[0], Len: uint64(len(p))}},
		[]unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		r.read = append(r.read, memorySlice{Addr: addr, Len: len(p)})
		return max(n, 0), err
	}
	r.read = append(r.read, memorySlice{Addr: addr, Data: bytes.Clone(p)})
	return n, nil
}

// runPtrace runs argv and records its calls. The calling thread must be
// locked.
func runPtrace(t *testing.T, argv []string) *recording {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = testEnv
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	rec := &recording{PIDs: []int{pid}}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Stopped() {
		t.Fatalf("first stop: %v, status %#x", err, ws)
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatal(err)
	}
	var (
		d    = NewDecoder(nil)
		c    Call
		open *recordedCall
		// The first stop is within the execve, whose exit comes next.
		sig = 0
	)
	for first := true; ; {
		if err := unix.PtraceSyscall(pid, sig); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
			t.Fatal(err)
		}
		sig = 0
		switch {
		case ws.Exited() || ws.Signaled():
			if open != nil {
				open.NoReturn = true
				rec.Calls = append(rec.Calls, *open)
			}
			return rec
		case ws.Stopped() && ws.StopSignal() != unix.SIGTRAP|0x80:
			if sig = int(ws.StopSignal()); sig == int(unix.SIGTRAP) {
				sig = 0
			}
			continue
		}
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			t.Fatal(err)
		}
		mem := &recorder{pid: pid}
		if first && regs.Orig_rax == unix.SYS_EXECVE && regs.Rax == 0 {
			first = false
			continue
		}
		first = false
		if open == nil {
			open = &recordedCall{Regs: Registers{
				Nr: regs.Orig_rax, SP: regs.Rsp,
				Args: [6]uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9},
			}}
			d.Entry(&c, open.Regs, mem)
			open.Entry = mem.read
			continue
		}
		open.Ret = int64(regs.Rax)
		d.Exit(&c, open.Ret, mem)
		open.Exit = mem.read
		switch c.Name() {
		case "getppid", "fork", "vfork", "clone", "clone3":
			rec.PIDs = append(rec.PIDs, int(open.Ret))
		}
		rec.Calls = append(rec.Calls, *open)
		open = nil
	}
}

func (r *recording) save(file string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(b); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
