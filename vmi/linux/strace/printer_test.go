package strace

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	alice = Thread{PID: 100, TID: 100, Comm: "alice"}
	bob   = Thread{PID: 100, TID: 101, Comm: "bob"}
	epoch = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
)

// script drives a decoder and a printer by hand.
type script struct {
	d   *Decoder
	p   *Printer
	mem Reader
	at  time.Time
}

func newScript(w *bytes.Buffer, o *PrinterOptions) *script {
	return &script{d: NewDecoder(nil), p: NewPrinter(w, o), mem: memory{0x1000: page("hello")}, at: epoch}
}

func (s *script) enter(t Thread, nr uint64, args ...uint64) *Call {
	c := new(Call)
	r := Registers{Nr: nr}
	copy(r.Args[:], args)
	s.d.Entry(c, r, s.mem)
	s.p.Enter(t, c, s.at)
	s.at = s.at.Add(time.Millisecond)
	return c
}

func (s *script) leave(t Thread, c *Call, ret int64) {
	s.d.Exit(c, ret, s.mem)
	s.p.Leave(t, c, s.at)
	s.at = s.at.Add(time.Millisecond)
}

const (
	nrRead, nrWrite, nrGetpid, nrExit, nrFutex, nrExitGroup = 0, 1, 39, 60, 202, 231
)

// interleaved is a session of two threads in which every rule for open lines
// comes up.
func interleaved(s *script) {
	s.leave(alice, s.enter(alice, nrGetpid), 100)
	r := s.enter(bob, nrRead, 3, 0x1000, 10) // bob waits
	w := s.enter(alice, nrWrite, 1, 0x1000, 5)
	s.leave(alice, w, 5)
	s.leave(bob, r, 5)
	f := s.enter(bob, nrFutex, 0x1000, 0, 7, 0)
	s.leave(alice, s.enter(alice, nrGetpid), 100)
	r = s.enter(alice, nrRead, 0, 0x1000, 1)
	s.enter(bob, nrExitGroup, 3)
	s.p.Killed(alice, r)
	s.p.Killed(bob, f)
	s.p.Exited(bob, 3<<8)
	s.p.Exited(alice, 9)
	s.enter(alice, nrRead, 0, 0x1000, 1)
	s.p.Detach()
}

func TestInterleaving(t *testing.T) {
	var out bytes.Buffer
	s := newScript(&out, nil)
	interleaved(s)
	if err := s.p.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `alice[100] getpid() = 100
bob[101] read(3,  <unfinished ...>
alice[100] write(1, "hello", 5) = 5
bob[101] <... read resumed>"hello", 10) = 5
bob[101] futex(0x1000, FUTEX_WAIT, 7, NULL <unfinished ...>
alice[100] getpid() = 100
alice[100] read(0,  <unfinished ...>
bob[101] exit_group(3) = ?
alice[100] <... read resumed> <unfinished ...>) = ?
bob[101] <... futex resumed>) = ?
bob[101] +++ exited with 3 +++
alice[100] +++ killed by SIGKILL +++
alice[100] read(0,  <detached ...>
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if got := s.p.Counts(); got.Calls != 4 || got.Lost != 0 {
		t.Errorf("counts %+v", got)
	}
}

// TestFlushInBetween flushes after every step: the text must be the same.
func TestFlushInBetween(t *testing.T) {
	var whole, pieces bytes.Buffer
	s := newScript(&whole, &PrinterOptions{Column: 40})
	interleaved(s)
	s.p.Flush()

	s = newScript(&pieces, &PrinterOptions{Column: 40})
	s.mem = flushing{s.mem, s.p}
	interleaved(s)
	s.p.Flush()
	if diff := cmp.Diff(whole.String(), pieces.String()); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(whole.String(), "\nbob[101] <... futex resumed>)                    = ?\n") {
		t.Errorf("no alignment in\n%s", whole.String())
	}
}

// flushing flushes the printer whenever memory is read.
type flushing struct {
	Reader
	p *Printer
}

func (f flushing) Read(addr uint64, p []byte) (int, error) {
	f.p.Flush()
	return f.Reader.Read(addr, p)
}

func TestAttachedCall(t *testing.T) {
	var out bytes.Buffer
	s := newScript(&out, nil)
	var c Call
	s.d.Attach(&c, nrRead)
	s.leave(alice, &c, 5)
	s.p.Flush()
	if diff := cmp.Diff("alice[100] <... read resumed>) = 5\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	s := newScript(&out, &PrinterOptions{JSON: true})
	s.leave(bob, s.enter(bob, nrRead, 3, 0x1000, 5), 5)
	s.leave(alice, s.enter(alice, 500, 1), -38)
	s.enter(bob, nrExit, 0)
	s.p.Exited(bob, 0)
	s.p.Detach()
	if err := s.p.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []Record
	for dec := json.NewDecoder(&out); dec.More(); {
		var r Record
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	ret := func(v int64) *int64 { return &v }
	at := func(ms int) *time.Time { v := epoch.Add(time.Duration(ms) * time.Millisecond); return &v }
	want := []Record{
		{Name: "read", Args: []string{"3", `"hello"`, "5"}, Raw: []string{"0x3", "0x1000", "0x5", "0x0", "0x0", "0x0"}, Ret: ret(5), PID: 100, TID: 101, Comm: "bob", Time: at(0), Duration: 0.001},
		{Name: "syscall_0x1f4", Args: []string{"0x1", "0", "0", "0", "0", "0"}, Raw: []string{"0x1", "0x0", "0x0", "0x0", "0x0", "0x0"}, Ret: ret(-38), Error: "ENOSYS", PID: 100, TID: 100, Comm: "alice", Time: at(2), Duration: 0.001},
		{Name: "exit", Args: []string{"0"}, Raw: []string{"0x0", "0x0", "0x0", "0x0", "0x0", "0x0"}, PID: 100, TID: 101, Comm: "bob", Time: at(4)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSummary(t *testing.T) {
	var out bytes.Buffer
	s := newScript(&out, &PrinterOptions{Quiet: true})
	for range 3 {
		s.leave(alice, s.enter(alice, nrRead, 3, 0x1000, 5), 5)
	}
	s.leave(alice, s.enter(alice, 257, 0, 0, 0), -2)
	s.leave(alice, s.enter(alice, 3, 3), 0)
	s.leave(alice, s.enter(alice, 8, 3), 0)
	s.enter(alice, nrExitGroup, 0)
	if err := s.p.Summary(&out); err != nil {
		t.Fatal(err)
	}
	want := `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.003000        1000         3           read
 16.67    0.001000        1000         1           close
 16.67    0.001000        1000         1           lseek
 16.67    0.001000        1000         1         1 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.006000        1000         6         1 total
`
	s.p.Flush()
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestEmptySummary(t *testing.T) {
	var out bytes.Buffer
	if err := NewPrinter(&out, nil).Summary(&out); err != nil || out.Len() != 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

var errFull = errors.New("disk full")

type fullDisk struct{ room int }

func (f *fullDisk) Write(p []byte) (int, error) {
	n := min(f.room, len(p))
	f.room -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// TestWriteError shows that a failed write is reported, once and for all, and
// that the memory stays bounded.
func TestWriteError(t *testing.T) {
	p := NewPrinter(&fullDisk{room: 100}, nil)
	s := &script{d: NewDecoder(nil), p: p, mem: memory{}, at: epoch}
	for range 3 * maxPending / 20 {
		s.leave(alice, s.enter(alice, nrGetpid), 1)
	}
	if cap(p.buf)+cap(p.spare) > 4*maxPending {
		t.Errorf("%d bytes are kept", cap(p.buf)+cap(p.spare))
	}
	if err := p.Flush(); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
	if p.Counts().Lost == 0 {
		t.Error("nothing is counted as lost")
	}
}
