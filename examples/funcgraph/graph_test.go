package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/chrometrace/tracetest"
	"github.com/govmi/govmi/vmi"
)

// bench is a graph of made-up functions whose clock a test sets.
type bench struct {
	*graph
	b  bytes.Buffer
	at time.Time
}

const stack = 0xffffc90000010000

func newBench(f form) *bench {
	b := &bench{at: time.Unix(0, 0)}
	now := func() time.Time { return b.at }
	b.graph = &graph{now: now, names: []string{"ksys_read", "vfs_read", "security_file_permission", "fput"}}
	switch f {
	case formJSON:
		b.out = &records{pen{w: &b.b}}
	case formPerfetto:
		b.out = newPerfetto(&b.b, now)
	default:
		b.out = newTree(&b.b)
	}
	return b
}

func (b *bench) tick() time.Time { b.at = b.at.Add(1500 * time.Nanosecond); return b.at }

func who(tid int) (vmi.VirtAddr, thread) {
	return 0xffff888000000000 + vmi.VirtAddr(tid)<<12, thread{PID: 100, TID: tid, Comm: "cat"}
}

func (b *bench) in(tid, fn int, sp uint64) {
	a, th := who(tid)
	b.enter(fn, a, th, stack+uint64(tid)<<20+sp, b.tick())
}

func (b *bench) end(tid, fn int, sp uint64, tail string) {
	a, _ := who(tid)
	b.leave(fn, a, stack+uint64(tid)<<20+sp, 7, tail, b.tick())
}

// story is two threads' calls, one of whose ends is not seen, and one that has not
// ended.
func (b *bench) story() {
	b.in(100, 0, 0x3000)
	b.in(100, 1, 0x2000)
	b.in(100, 2, 0x1000)
	b.end(100, 2, 0x1000, "")
	b.in(101, 3, 0x3000)
	b.end(101, 3, 0x3000, "kfree")
	b.in(100, 2, 0x1000)
	b.end(100, 1, 0x2000, "") // and of 2 none was seen
	b.end(100, 0, 0x3000, "")
	b.end(100, 3, 0x3000, "") // from before
	b.in(100, 3, 0x3000)
	b.finish()
	if err := b.out.Flush(); err != nil {
		panic(err)
	}
}

func TestTree(t *testing.T) {
	b := newBench(formTree)
	b.story()
	want := strings.TrimPrefix(`
# thread               duration      function calls
cat[100]                            | ksys_read() {
cat[100]                            |   vfs_read() {
cat[100]                   1.500 us |     security_file_permission();
cat[101]                   1.500 us | fput(); /* -> kfree */
cat[100]                            |     security_file_permission(); /* security_file_permission: its end was not seen */
cat[100]                   9.000 us |   } /* vfs_read */
cat[100]            +     12.000 us | } /* ksys_read */
cat[100]                            | fput(); /* fput: tracing ended in it */
`, "\n")
	if diff := cmp.Diff(want, b.b.String()); diff != "" {
		t.Error(diff)
	}
	if b.ended != 4 || b.calls.Missed != 1 || b.calls.Unentered != 1 {
		t.Errorf("%d ended, %+v", b.ended, b.calls)
	}
}

func TestRecords(t *testing.T) {
	b := newBench(formJSON)
	b.story()
	var got []string
	for d := json.NewDecoder(&b.b); d.More(); {
		var r record
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if (r.Duration == nil) != (r.Note != "") || r.PID != 100 || r.Comm != "cat" {
			t.Errorf("%+v", r)
		}
		got = append(got, strings.Repeat(".", r.Depth)+r.Function)
	}
	want := []string{"..security_file_permission", "fput", "..security_file_permission", ".vfs_read", "ksys_read", "fput"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPerfetto(t *testing.T) {
	b := newBench(formPerfetto)
	b.story()
	threads, err := tracetest.Check(&b.b)
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) != 2 || len(threads[100].Events) != 5 || len(threads[101].Events) != 1 {
		t.Errorf("%+v", threads)
	}
	if e := threads[101].Events[0]; e.Name != "fput" || e.To-e.From != 1500 || !strings.Contains(string(e.Args), `"tail":"kfree"`) {
		t.Errorf("%+v", e)
	}
}
