package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/wire"
)

// area is a result disk in memory.
type area struct {
	mu   sync.Mutex
	data []byte
}

func (a *area) Size() int64 { return int64(len(a.data)) }

func (a *area) WriteAt(b []byte, off int64) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if off+int64(len(b)) > int64(len(a.data)) {
		return 0, io.ErrShortWrite
	}
	return copy(a.data[off:], b), nil
}

// host is the other end of an agent under test.
type host struct {
	t       *testing.T
	enc     *wire.Encoder
	frames  chan wire.Message
	served  chan error
	job     []byte
	result  area
	console string
	work    string
	failed  int
}

func startAgent(t *testing.T, job []byte) *host {
	t.Helper()
	h := &host{t: t, frames: make(chan wire.Message, 10000), served: make(chan error, 1), job: job,
		result: area{data: make([]byte, 4<<20)}, console: t.TempDir(), work: t.TempDir()}
	ours, theirs := net.Pipe()
	h.enc = wire.NewEncoder(ours)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		h.served <- Serve(ctx, Config{
			Port: theirs, Job: bytes.NewReader(job), Result: &h.result, WorkDir: h.work, ConsoleDir: h.console,
			Hello:        wire.Hello{Version: wire.Version},
			AfterFailure: func(context.Context) error { h.failed++; return nil },
		})
	})
	wg.Go(func() {
		defer close(h.frames)
		for dec := wire.NewDecoder(ours); ; {
			m, err := dec.Decode()
			if err != nil {
				return // the test's end closes the pipe
			}
			h.frames <- m
		}
	})
	t.Cleanup(func() {
		cancel()
		ours.Close()
		theirs.Close()
		wg.Wait()
	})
	if hello, ok := h.next().(*wire.Hello); !ok || hello.Version != wire.Version {
		t.Fatalf("first frame is %#v, want a hello", hello)
	}
	return h
}

func (h *host) next() wire.Message {
	h.t.Helper()
	m, ok := <-h.frames
	if !ok {
		h.t.Fatal("the agent has closed the port")
	}
	return m
}

func (h *host) send(m wire.Message) {
	h.t.Helper()
	if err := h.enc.Encode(m); err != nil {
		h.t.Fatal(err)
	}
}

// run gives a job and returns its done frame and all other frames before it.
func (h *host) run(m *wire.Run) (*wire.Done, []wire.Message) {
	h.t.Helper()
	if h.job != nil {
		m.Length, m.Sum = int64(len(h.job)), wire.Sum(h.job)
	}
	h.send(m)
	return h.wait()
}

func (h *host) wait() (*wire.Done, []wire.Message) {
	h.t.Helper()
	var others []wire.Message
	for {
		m := h.next()
		if done, ok := m.(*wire.Done); ok {
			return done, others
		}
		others = append(others, m)
	}
}

// files returns the result tar's members.
func (h *host) files(done *wire.Done) map[string]string {
	h.t.Helper()
	data := h.result.data[:done.Length]
	if wire.Sum(data) != done.Sum {
		h.t.Fatal("the result's checksum is wrong")
	}
	files := map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			h.t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			h.t.Fatal(err)
		}
		files[hdr.Name] = string(b) + hdr.Linkname
	}
}

func makeTar(t *testing.T, members ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range members {
		content := h.PAXRecords["GOVMI.content"]
		h.PAXRecords = nil
		h.Size = int64(len(content))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name string, mode int64, content string) *tar.Header {
	return &tar.Header{Name: name, Mode: mode, PAXRecords: map[string]string{"GOVMI.content": content}}
}

func sh(script string) *wire.Run { return &wire.Run{ID: 1, Argv: []string{"sh", "-c", script}} }

func output(ms []wire.Message, fd int) string {
	var b strings.Builder
	for _, m := range ms {
		if out, ok := m.(*wire.Out); ok && out.FD == fd {
			b.Write(out.Data)
		}
	}
	return b.String()
}

func TestJob(t *testing.T) {
	h := startAgent(t, makeTar(t,
		file("sub/prog", 0o755, "#!/bin/sh\necho out; echo err >&2; mkdir -p ../out/d; cat data >$GOVMI_LAB_OUT/d/copy; ln -s d/copy ../out/link; echo $X; exit 3\n"),
		file("sub/data", 0o644, "some data")))
	done, _ := h.run(&wire.Run{ID: 1, Argv: []string{"./prog"}, Dir: "sub", Env: []string{"X=from env"}})
	if done.Exit != 3 || done.Signal != 0 || done.Error != "" || done.OK() {
		t.Errorf("got %+v", done)
	}
	want := map[string]string{"stdout": "out\nfrom env\n", "stderr": "err\n", "out": "", "out/d": "", "out/d/copy": "some data", "out/link": "d/copy"}
	got := h.files(done)
	delete(got, "out/")
	delete(got, "out/d/")
	for name := range want {
		if want[name] == "" {
			delete(want, name)
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if h.failed != 1 {
		t.Errorf("AfterFailure ran %d times after a failure", h.failed)
	}
	// The next job finds nothing of the first.
	h.job = nil
	done, _ = h.run(&wire.Run{ID: 2, Argv: []string{"sh", "-c", "ls"}})
	if diff := cmp.Diff("out\nstderr\nstdout\n", h.files(done)["stdout"]); diff != "" || !done.OK() {
		t.Errorf("second job: %+v, files (-want +got):\n%s", done, diff)
	}
	if h.failed != 1 {
		t.Errorf("AfterFailure ran %d times", h.failed)
	}
	if left, err := os.ReadDir(h.work); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestJobFails(t *testing.T) {
	tests := []struct {
		name string
		job  []byte
		run  *wire.Run
		want string // in Done.Error
		sig  int
	}{
		{name: "no command", run: &wire.Run{ID: 1}, want: "without a command"},
		{name: "no such program", run: &wire.Run{ID: 1, Argv: []string{"./missing"}}, want: "no such file"},
		{name: "not in PATH", run: &wire.Run{ID: 1, Argv: []string{"no-such-program"}}, want: "not found"},
		{name: "killed", run: sh("kill -9 $$"), sig: 9},
		{name: "time is up", run: &wire.Run{ID: 1, Argv: []string{"sleep", "1000"}, TimeoutMillis: 50}, want: "time is up", sig: 15},
		{name: "leaves its folder", run: &wire.Run{ID: 1, Argv: []string{"ls"}, Dir: "../.."}, want: "leaves"},
		{name: "tar leaves its folder", job: makeTar(t, file("../evil", 0o644, "x")), run: sh("true"), want: "escapes"},
		{name: "no tar", job: bytes.Repeat([]byte("x"), 1024), run: sh("true"), want: "job disk"},
		{name: "result too big", run: sh("head -c 5000000 /dev/zero >out/big"), want: ErrResultTooBig.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startAgent(t, tt.job)
			done, _ := h.run(tt.run)
			if done.OK() || !strings.Contains(done.Error, tt.want) || (tt.want == "") != (done.Error == "") || done.Signal != tt.sig ||
				done.TimedOut != (tt.name == "time is up") {
				t.Errorf("got %+v, want error %q and signal %d", done, tt.want, tt.sig)
			}
		})
	}
}

func TestWrongSum(t *testing.T) {
	h := startAgent(t, nil)
	job := makeTar(t, file("a", 0o644, "x"))
	h.job = nil
	h.send(&wire.Run{ID: 1, Length: int64(len(job)), Sum: wire.Sum(job) + 1, Argv: []string{"true"}})
	if done, _ := h.wait(); done.OK() || !strings.Contains(done.Error, "job disk") {
		t.Errorf("got %+v", done)
	}
}

func TestLive(t *testing.T) {
	h := startAgent(t, nil)
	m := sh("echo one; echo two >&2; read x; echo got $x")
	m.Live, m.Stdin = true, true
	h.send(m)
	h.send(&wire.Stdin{ID: 1, Data: []byte("input\n")})
	done, others := h.wait()
	if !done.OK() || done.DroppedOut != 0 {
		t.Errorf("got %+v", done)
	}
	if diff := cmp.Diff("one\ngot input\n", output(others, 1)); diff != "" {
		t.Errorf("standard output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("two\n", output(others, 2)); diff != "" {
		t.Errorf("standard error (-want +got):\n%s", diff)
	}
}

func TestLiveIsBounded(t *testing.T) {
	h := startAgent(t, nil)
	m := sh("head -c 1000000 /dev/zero | tr '\\0' x")
	m.Live = true
	done, others := h.run(m)
	sent := len(output(others, 1))
	if got := h.files(done)["stdout"]; len(got) != 1000000 {
		t.Errorf("captured %d bytes", len(got))
	}
	if !done.OK() || int64(sent)+done.DroppedOut != 1000000 || done.DroppedOut == 0 {
		t.Errorf("sent %d, dropped %d", sent, done.DroppedOut)
	}
}

func TestStdinIsEmptyByDefault(t *testing.T) {
	h := startAgent(t, nil)
	if done, _ := h.run(sh("cat")); !done.OK() {
		t.Errorf("got %+v", done)
	}
}

func TestTTY(t *testing.T) {
	h := startAgent(t, nil)
	m := sh("stty size; tty >/dev/null && echo terminal; read x; stty size; echo got $x")
	m.TTY, m.Rows, m.Cols = true, 30, 100
	h.send(m)
	seen := ""
	for !strings.Contains(seen, "terminal") {
		out, ok := h.next().(*wire.Out)
		if !ok {
			t.Fatalf("unexpected frame after %q", seen)
		}
		seen += string(out.Data)
	}
	h.send(&wire.WinSize{ID: 1, Rows: 40, Cols: 120})
	h.send(&wire.Stdin{ID: 1, Data: []byte("hello\n")})
	done, others := h.wait()
	seen += output(others, 1)
	if want := "30 100\r\nterminal\r\nhello\r\n40 120\r\ngot hello\r\n"; seen != want || !done.OK() {
		t.Errorf("got %+v and %q, want %q", done, seen, want)
	}
}

func TestTTYHeldByAnother(t *testing.T) {
	h := startAgent(t, nil)
	pid := filepath.Join(h.work, "pid")
	m := sh("setsid sh -c 'echo $$ >" + pid + "; exec sleep 1000' & while [ ! -s " + pid + " ]; do sleep 0.01; done; echo last")
	m.TTY = true
	done, others := h.run(m)
	if out := output(others, 1); !done.OK() || out != "last\r\n" {
		t.Errorf("got %+v and %q", done, out)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestSignal(t *testing.T) {
	h := startAgent(t, nil)
	m := sh("trap 'echo trapped; exit 5' USR1; echo ready; while :; do sleep 0.05; done")
	m.Live = true
	h.send(m)
	for {
		if out, ok := h.next().(*wire.Out); ok && strings.Contains(string(out.Data), "ready") {
			break
		}
	}
	h.send(&wire.Signal{ID: 1, Signo: int(syscall.SIGUSR1)})
	done, others := h.wait()
	if done.Exit != 5 || output(others, 1) != "trapped\n" {
		t.Errorf("got %+v and %q", done, output(others, 1))
	}
}

func TestOneJobAtATime(t *testing.T) {
	h := startAgent(t, nil)
	h.send(&wire.Run{ID: 1, Argv: []string{"sleep", "1000"}})
	h.send(&wire.Run{ID: 2, Argv: []string{"true"}})
	if done, _ := h.wait(); done.ID != 2 || !strings.Contains(done.Error, "still running") {
		t.Errorf("got %+v", done)
	}
}

func TestGuestPanic(t *testing.T) {
	for _, allow := range []bool{false, true} {
		h := startAgent(t, nil)
		log := filepath.Join(h.console, "guest-my-guest.log")
		// Ends by itself only when the panic may happen.
		m := sh("echo '[ 1.0] Kernel panic - not syncing: test' >>" + log + "; while [ ! -e " + h.work + "/go ]; do sleep 0.05; done")
		m.AllowGuestPanic = allow
		h.send(m)
		p, ok := h.next().(*wire.GuestPanic)
		if !ok || p.Domain != "my-guest" || p.ID != 1 || !strings.Contains(p.Tail, "not syncing: test") {
			t.Fatalf("got %+v", p)
		}
		if allow {
			if err := os.WriteFile(filepath.Join(h.work, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		done, _ := h.wait()
		if done.OK() != allow || strings.Contains(done.Error, "kernel panic in guest my-guest") == allow {
			t.Errorf("allow %v: got %+v", allow, done)
		}
	}
}

func TestConsoleOfANewGuestOfTheSameName(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "guest-g.log")
	reports := 0
	w := newConsoleWatch(dir, func(string, string) { reports++ })
	text := []byte("Kernel panic - not syncing: x\n")
	for i := 1; i <= 2; i++ {
		// Renamed, not removed, lest the file system give the new file the old
		// one's inode number; dom0's, in RAM, does not.
		if err := os.Rename(log, log+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		// The second log is longer than the first from the beginning.
		if err := os.WriteFile(log, bytes.Repeat(text, i*i), 0o644); err != nil {
			t.Fatal(err)
		}
		w.scan()
		w.scan()
		if reports != i {
			t.Errorf("%d reports after guest %d", reports, i)
		}
	}
}

func TestPowerOff(t *testing.T) {
	h := startAgent(t, nil)
	h.send(&wire.Run{ID: 1, Argv: []string{"sleep", "1000"}})
	h.send(&wire.PowerOff{})
	if err := <-h.served; !errors.Is(err, ErrPowerOff) {
		t.Errorf("got %v", err)
	}
}

func TestBadFrameEndsTheAgent(t *testing.T) {
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(context.Background(), Config{Port: theirs, ConsoleDir: t.TempDir()})
	}()
	if _, err := wire.NewDecoder(ours).Decode(); err != nil {
		t.Fatal(err)
	}
	ours.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(ours, "noise\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, wire.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestGuestIDs(t *testing.T) {
	table := `Name                                        ID   Mem VCPUs	State	Time(s)
Domain-0                                     0   768     1     r-----      15.2
a guest with spaces                          7   192     1     -b----       6.6
(null)                                      12     0     1     --ps-d       6.6
`
	if diff := cmp.Diff([]string{"7", "12"}, guestIDs(table)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
