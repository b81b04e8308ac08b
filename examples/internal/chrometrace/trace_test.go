package chrometrace

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/chrometrace/tracetest"
)

func TestTrace(t *testing.T) {
	var out bytes.Buffer
	begin := time.Now()
	at := func(us int) time.Time { return begin.Add(time.Duration(us)*time.Microsecond + 7) }
	tr := New(&out, begin)
	main, worker := Thread{100, 100, "sh"}, Thread{100, 101, "worker"}
	tr.Complete(worker, "syscall", "read", at(2), at(5), map[string]any{"arguments": []string{"3", `"<\x1b"`}, "result": "1"})
	tr.Complete(main, "function", "inner", at(11), at(12), nil)
	tr.Complete(main, "function", "outer", at(10), at(20), nil)
	tr.Instant(main, "syscall", "exit_group", at(21), nil)
	tr.Complete(main, "syscall", "early", begin.Add(-time.Second), at(30), nil)
	main.Comm = "ls" // by exec
	tr.Instant(main, "thread", "exited with 0", at(31), nil)
	tr.Gone(main)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	tr.Instant(main, "thread", "late", at(40), nil)
	if err := tr.Close(); err != nil || tr.Lost() != 1 {
		t.Error(err, tr.Lost())
	}
	threads, err := tracetest.Check(&out)
	if err != nil {
		t.Fatal(err)
	}
	if th := threads[100]; th.Name != "ls" || th.Process != "ls" || len(th.Events) != 5 {
		t.Errorf("%+v", th)
	}
	th := threads[101]
	if th.Name != "worker" || len(th.Events) != 1 {
		t.Fatalf("%+v", th)
	}
	e := th.Events[0]
	if e.Name != "read" || e.Category != "syscall" || e.From != 2007 || e.To != 5007 {
		t.Errorf("%+v", e)
	}
	var args map[string]any
	want := map[string]any{"arguments": []any{"3", `"<\x1b"`}, "result": "1"}
	if err := json.Unmarshal(e.Args, &args); err != nil || !cmp.Equal(args, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, args))
	}
	if e := threads[100].Events[3]; e.From != 0 || e.To != 30007 {
		t.Errorf("a call that began before: %+v", e)
	}
}

// A trace without events is one, and so is one whose writer was cut off by Close
// at any moment.
func TestEndsAnywhere(t *testing.T) {
	for n := range 5 {
		var out bytes.Buffer
		tr := New(&out, time.Now())
		for range n {
			tr.Instant(Thread{1, 1, "init"}, "c", "x", time.Now(), nil)
			if err := tr.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		threads, err := tracetest.Check(&out)
		if err != nil || n > 0 && len(threads[1].Events) != n {
			t.Errorf("%d events: %v", n, err)
		}
	}
}

func TestWriteError(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	tr := New(w, time.Now())
	if err := tr.Flush(); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	tr.Instant(Thread{1, 1, "init"}, "c", "x", time.Now(), nil)
	if err := tr.Close(); !errors.Is(err, io.ErrClosedPipe) || tr.Lost() == 0 {
		t.Error(err, tr.Lost())
	}
}

// The checker sees what it is there for.
func TestCheckRefuses(t *testing.T) {
	whole := func(events string) string {
		const names = `{"ph":"M","pid":1,"tid":1,"name":"thread_name","ts":0,"args":{"name":"a"}},{"ph":"M","pid":1,"tid":1,"name":"process_name","ts":0,"args":{"name":"a"}}`
		return `{"displayTimeUnit":"ns","otherData":{"clock":"c"},"traceEvents":[` + names + events + `]}`
	}
	x := func(name, ts, dur string) string {
		return `,{"ph":"X","pid":1,"tid":1,"name":"` + name + `","ts":` + ts + `,"dur":` + dur + `}`
	}
	for _, tt := range []struct{ text, want string }{
		{whole("")[:40], "EOF"},
		{whole("") + "x", "follows"},
		{whole(`,{"ph":"X","pid":1,"tid":1,"name":"a","ts":1}`), "complete event"},
		{whole(`,{"ph":"i","pid":1,"tid":1,"name":"a","ts":1}`), "instant event"},
		{whole(`,{"ph":"Q","pid":1,"tid":1,"name":"a","ts":1}`), "phase"},
		{whole(`,{"ph":"i","s":"t","pid":1,"tid":2,"name":"a","ts":1}`), "no name yet"},
		{whole(`,{"ph":"i","s":"t","pid":1,"tid":1,"name":"a","ts":1,"more":1}`), "unknown field"},
		{whole(x("a", "1", "5") + x("b", "4", "5")), "overlap"},
		{whole(x("outer", "1", "5") + x("inner", "2", "1")), "written after"},
		{whole(x("a", "-1", "5")), "time -1"},
		{whole(x("a", "1.0005", "5")), "time 1.0005"},
	} {
		if _, err := tracetest.Check(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
		}
	}
	if _, err := tracetest.Check(strings.NewReader(whole(x("inner", "2", "1") + x("outer", "1", "5") + x("next", "6", "0")))); err != nil {
		t.Error(err)
	}
}
