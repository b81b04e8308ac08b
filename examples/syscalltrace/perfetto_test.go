package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/chrometrace/tracetest"
)

// slice is an event of a trace, for comparison.
type slice struct {
	Name     string
	From, To int64
	Args     callArgs
}

func tracks(t *testing.T, out *bytes.Buffer) map[int][]slice {
	t.Helper()
	threads, err := tracetest.Check(out)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int][]slice{}
	for tid, th := range threads {
		for _, e := range th.Events {
			s := slice{Name: e.Name, From: e.From, To: e.To}
			if len(e.Args) > 0 {
				if err := json.Unmarshal(e.Args, &s.Args); err != nil {
					t.Error(err)
				}
			}
			got[tid] = append(got[tid], s)
		}
	}
	return got
}

// newPerfettoBench is a bench whose calls go to a trace. Its clock advances by a
// microsecond with each look.
func newPerfettoBench() *bench {
	b := newBench(nil)
	b.p = newPerfetto(&b.out, b.tracer.now)
	return b
}

func TestPerfetto(t *testing.T) {
	b := newPerfettoBench()
	b.call(1, 39)              // getpid, at 2 us
	b.call(2, 3, 7)            // close, in between
	b.ret(1, 100)              // 4
	b.ret(2, -9)               // 5
	b.call(2, 0, 0, 0x1000, 5) // read
	b.call(1, 231, 3)          // exit_group
	b.exited(b.g.tasks[2], 9)
	b.p.Detach()
	if err := b.p.Flush(); err != nil {
		t.Fatal(err)
	}
	const us = int64(time.Microsecond)
	want := map[int][]slice{
		100: {
			{"getpid", 1 * us, 3 * us, callArgs{Arguments: []string{}, Result: "100"}},
			{"exit_group", 6 * us, 6 * us, callArgs{Arguments: []string{"3"}, Result: "?"}},
		},
		101: {
			{"close", 2 * us, 4 * us, callArgs{Arguments: []string{"7"}, Result: "-1 EBADF (Bad file descriptor)", Error: "EBADF"}},
			{"read", 5 * us, 8 * us, callArgs{Arguments: []string{"0", "", "5"}, Result: "?", Note: "the thread died in it"}},
			{Name: "killed by signal 9", From: 9 * us, To: 9 * us},
		},
	}
	if diff := cmp.Diff(want, tracks(t, &b.out)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if c := b.p.Counts(); c.Calls != 2 || c.Lines != 5 || c.Lost != 0 {
		t.Errorf("%+v", c)
	}
}

// Interrupted in mid-call, the trace is whole.
func TestPerfettoInterrupted(t *testing.T) {
	b := newPerfettoBench()
	b.call(1, 39)
	b.ret(1, 100)
	b.call(1, 0, 0, 0x1000, 5)
	if err := b.p.Flush(); err != nil {
		t.Fatal(err)
	}
	b.call(2, 3, 7)
	b.p.Detach()
	if err := b.p.Flush(); err != nil {
		t.Fatal(err)
	}
	got := tracks(t, &b.out)
	for tid, n := range map[int]int{100: 2, 101: 1} {
		if len(got[tid]) != n || got[tid][n-1].Args.Note != "tracing ended in it" {
			t.Errorf("thread %d: %+v", tid, got[tid])
		}
	}
}
