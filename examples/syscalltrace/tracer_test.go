package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/vmi/linux/strace"
	"github.com/govmi/govmi/xen"
)

// fakeGuest is a machine whose state the test sets.
type fakeGuest struct {
	tasks map[uint64]task // by vCPU: the thread that it runs
	names map[int32]string
	saved map[uint64]callRegs
	text  map[uint64]string
	asked int // questions that cost more than current
}

var errFake = errors.New("not there")

func (g *fakeGuest) comm(t task) (c linux.Comm, err error) {
	copy(c[:15], g.names[t.tid])
	return c, nil
}

func (g *fakeGuest) callRegs(addr uint64) (callRegs, error) {
	g.asked++
	c, ok := g.saved[addr]
	if !ok {
		return c, errFake
	}
	return c, nil
}

func (g *fakeGuest) user(*xen.Registers) strace.Reader { return g }

func (g *fakeGuest) Read(addr uint64, p []byte) (int, error) {
	for base, s := range g.text {
		s += strings.Repeat("\x00", 4096-len(s))
		if addr >= base && addr-base+uint64(len(p)) <= 4096 {
			return copy(p, s[addr-base:]), nil
		}
	}
	return 0, errFake
}

func (g *fakeGuest) last(t task) bool {
	n := 0
	for _, o := range g.tasks {
		if o.pid == t.pid {
			n++
		}
	}
	return n == 1
}

// fakeExit is the exit breakpoint.
type fakeExit struct{ armed bool }

func (f *fakeExit) Arm() error { f.armed = true; return nil }
func (f *fakeExit) Disarm()    { f.armed = false }

// bench is a tracer on a fake guest with two threads of process 100 and one of
// process 200.
type bench struct {
	*tracer
	g    *fakeGuest
	out  bytes.Buffer
	over bool
}

func newBench(set func(*tracer)) *bench {
	b := &bench{g: &fakeGuest{
		tasks: map[uint64]task{1: {pid: 100, tid: 100}, 2: {pid: 100, tid: 101}, 3: {pid: 200, tid: 200}},
		names: map[int32]string{100: "sh", 101: "worker", 200: "other"},
		saved: map[uint64]callRegs{},
		text:  map[uint64]string{0x1000: "/bin/ls"},
	}}
	at := time.Unix(0, 0)
	b.tracer = &tracer{
		m: b.g, d: strace.NewDecoder(nil), p: strace.NewPrinter(&b.out, nil),
		now:     func() time.Time { at = at.Add(time.Microsecond); return at },
		threads: map[int32]*thread{}, early: map[int32]struct{}{},
		ended: func() { b.over = true },
	}
	if set != nil {
		set(b.tracer)
	}
	return b
}

const frame = 0xffff888000001000

func on(vcpu uint64) *xen.Request {
	r := new(xen.Request)
	r.Regs.GS.Base = vcpu
	return r
}

func (b *bench) call(vcpu, nr uint64, args ...uint64) {
	c := callRegs{nr: nr, ret: -38}
	copy(c.args[:], args)
	b.g.saved[frame+vcpu] = c
	b.enter(on(vcpu), b.g.tasks[vcpu], frame+vcpu)
}

func (b *bench) ret(vcpu uint64, v int64) {
	c := b.g.saved[frame+vcpu]
	c.ret = v
	b.g.saved[frame+vcpu] = c
	b.leave(on(vcpu), b.g.tasks[vcpu], frame+vcpu)
}

// die ends the thread on vcpu.
func (b *bench) die(vcpu uint64, status uint32) {
	b.exited(b.g.tasks[vcpu], status)
	delete(b.g.tasks, vcpu)
}

func (b *bench) check(t *testing.T, want string) {
	t.Helper()
	if err := b.p.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.out.String()); diff != "" {
		t.Error(diff)
	}
	if b.lost != 0 {
		t.Errorf("%d events lost", b.lost)
	}
}

const (
	getpid, pause, execve, exitGroup, clone, read = 39, 34, 59, 231, 56, 0
)

func TestProcess(t *testing.T) {
	b := newBench(func(t *tracer) { t.pid = 100 })
	b.call(1, getpid)
	b.ret(1, 100)
	b.call(2, pause)
	b.call(3, getpid)
	b.ret(3, 200)
	b.call(1, execve, 0x1000, 0, 0)
	b.g.names[100] = "ls"
	b.ret(1, 0)
	b.call(1, exitGroup, 3)
	b.die(2, 3<<8)
	if b.over {
		t.Error("over before the last thread has ended")
	}
	b.die(1, 3<<8)
	if !b.over {
		t.Error("not over when the last thread has ended")
	}
	b.check(t, `sh[100] getpid() = 100
worker[101] pause( <unfinished ...>
sh[100] execve("/bin/ls", NULL, NULL) = 0
ls[100] exit_group(3) = ?
worker[101] <... pause resumed>) = ?
worker[101] +++ exited with 3 +++
ls[100] +++ exited with 3 +++
`)
	if len(b.threads) != 0 {
		t.Errorf("%d threads are remembered", len(b.threads))
	}
}

func TestByComm(t *testing.T) {
	b := newBench(func(t *tracer) { t.comm = "late" })
	b.call(1, getpid)
	b.ret(1, 100)
	b.g.names[200] = "late"
	b.call(3, getpid)
	b.ret(3, 200)
	b.call(3, execve, 0x1000, 0, 0) // completes although the name changes
	b.g.names[200] = "ls"
	b.ret(3, 0)
	b.call(3, getpid)
	b.ret(3, 200)
	b.die(3, 9)
	if b.over {
		t.Error("a trace by name does not end with a process")
	}
	b.check(t, `late[200] getpid() = 200
late[200] execve("/bin/ls", NULL, NULL) = 0
late[200] +++ killed by SIGKILL +++
`)
}

// A process that is not traced costs neither memory reads nor allocations.
func TestOthersAreCheap(t *testing.T) {
	b := newBench(func(t *tracer) { t.pid = 100 })
	r := on(3)
	n := testing.AllocsPerRun(100, func() {
		b.enter(r, b.g.tasks[3], frame)
		b.leave(r, b.g.tasks[3], frame)
	})
	if n != 0 || b.g.asked != 0 {
		t.Errorf("%v allocations, %d reads", n, b.g.asked)
	}
}

func TestInFlightAtAttach(t *testing.T) {
	b := newBench(func(t *tracer) {
		t.pid = 100
		t.early = map[int32]struct{}{100: {}, 101: {}}
	})
	b.g.saved[frame+1] = callRegs{nr: read, args: [6]uint64{0, 0x1000, 8}}
	b.ret(1, 7)
	b.ret(1, 7) // whatever that is, it is no call that we know of
	b.call(2, getpid)
	b.ret(2, 100)
	b.ret(2, 0)
	b.check(t, `sh[100] read(0, "/bin/ls", 8) = 7
worker[101] getpid() = 100
`)
}

func TestNewThreadIsNoCall(t *testing.T) {
	b := newBench(func(t *tracer) { t.early = map[int32]struct{}{101: {}} })
	b.call(1, clone, 17, 0, 0, 0, 0)
	b.g.saved[frame+2] = callRegs{nr: clone}
	b.ret(2, 0) // as old as the trace, but has not run yet
	b.g.saved[frame+3] = callRegs{nr: clone}
	b.ret(3, 0)
	b.ret(1, 200)
	b.check(t, "sh[100] clone(child_stack=NULL, flags=SIGCHLD) = 200\n")
}

// The kernel gives a thread that executes a program its main thread's id.
func TestExecOfAThread(t *testing.T) {
	b := newBench(func(t *tracer) { t.pid = 100 })
	b.call(1, pause)
	b.call(2, execve, 0x1000, 0, 0)
	b.die(1, 0)
	b.g.tasks[2] = task{pid: 100, tid: 100}
	b.ret(2, 0)
	b.call(2, getpid)
	b.ret(2, 100)
	b.check(t, `sh[100] pause( <unfinished ...>
worker[101] execve("/bin/ls", NULL, NULL <unfinished ...>
sh[100] <... pause resumed>) = ?
sh[100] +++ exited with 0 +++
worker[101] <... execve resumed>) = 0
sh[100] getpid() = 100
`)
}

// The exit breakpoint is there only while the exit of a chosen call is due.
func TestExitBreakpoint(t *testing.T) {
	exit := &fakeExit{armed: true}
	b := newBench(func(t *tracer) { t.exit, t.calls = exit, map[uint64]bool{getpid: true} })
	b.early[101] = struct{}{}
	var got []bool
	step := func(f func()) { f(); got = append(got, exit.armed) }
	step(b.arm)
	step(func() { b.g.saved[frame+2] = callRegs{nr: pause}; b.ret(2, -4) })
	step(func() { b.call(1, getpid) })
	step(func() { b.call(3, getpid) })
	step(func() { b.ret(1, 100) })
	step(func() { b.ret(3, 200) })
	step(func() { b.call(1, getpid) })
	step(func() { b.die(1, 9) })
	if diff := cmp.Diff([]bool{true, false, true, true, true, false, true, false}, got); diff != "" {
		t.Error(diff)
	}
	b.check(t, `sh[100] getpid( <unfinished ...>
other[200] getpid( <unfinished ...>
sh[100] <... getpid resumed>) = 100
other[200] <... getpid resumed>) = 200
sh[100] getpid() = ?
sh[100] +++ killed by SIGKILL +++
`)
}

func TestLost(t *testing.T) {
	b := newBench(nil)
	b.enter(on(1), b.g.tasks[1], frame) // registers are not readable
	b.call(1, getpid)
	b.call(1, pause) // the exit of getpid was missed
	b.ret(1, -4)
	if b.lost != 2 {
		t.Errorf("%d lost, want 2", b.lost)
	}
	if b.tracer.open != 0 {
		t.Errorf("%d calls open", b.tracer.open)
	}
}
