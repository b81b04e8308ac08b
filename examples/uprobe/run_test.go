package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

func TestUsage(t *testing.T) {
	refused := sessiontest.Refusing(t, func(ctx context.Context, args []string, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	refused("-domain is missing")
	refused("one of -pid and -comm", "-domain", "g", "-file", "a", "-func", "a")
	refused("-pid -1", "-domain", "g", "-pid", "-1", "-file", "a", "-func", "a")
	refused("-file is missing", "-domain", "g", "-pid", "1", "-func", "a")
	refused("-func is missing", "-domain", "g", "-pid", "1", "-file", "a")
	refused("empty name", "-domain", "g", "-pid", "1", "-file", "a", "-func", "a,")
	refused("-args 7", "-domain", "g", "-pid", "1", "-file", "a", "-func", "a", "-args", "7")
}

// Without a Xen, or without the domain, the program says so in one line.
func TestNoDomain(t *testing.T) {
	want := "Xen control domain"
	if _, err := os.Stat("/dev/xen/privcmd"); err == nil {
		want = "no domain is named"
	}
	var out, msg bytes.Buffer
	if status := run(t.Context(), nil, []string{"-domain", "no-such-guest", "-pid", "1", "-file", "a", "-func", "a"}, &out, &msg); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if s := msg.String(); !strings.HasPrefix(s, "uprobe: xen: ") || !strings.Contains(s, want) || strings.Count(s, "\n") != 1 {
		t.Errorf("message %q", s)
	}
}

func TestProbe(t *testing.T) {
	p := &probe{args: 2, now: func() time.Time { return time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC) }}
	p.who = func(*xen.Request) (thread, error) {
		return thread{addr: 0xffff888000000000, pid: 7, tid: 8, comm: "sh"}, nil
	}
	open := &function{Function: linux.Function{Name: "open\x1b"}}
	both := &function{Function: linux.Function{Name: "f"}, exits: []breakpoint.Exit{{}, {Tail: true}}}
	request := func(sp uint64) *xen.Request {
		return &xen.Request{Regs: xen.Registers{RDI: 1, RSI: 0xff, RAX: 42, RSP: sp}}
	}
	p.enter(0, open, request(0x7000))
	p.enter(1, both, request(0x7000))
	p.enter(1, both, request(0x6000))
	p.leave(1, true, request(0x6000))
	p.leave(1, false, request(0x7000))
	p.leave(1, false, request(0x5000)) // from before
	p.json = true
	p.enter(0, open, request(0x7000))
	p.who = func(*xen.Request) (thread, error) { return thread{}, errors.New("no thread") }
	p.enter(0, open, request(0x7000))
	const want = `03:04:05.000000 7/8 sh open?(0x1, 0xff)
03:04:05.000000 7/8 sh f(0x1, 0xff) goes on in another function
03:04:05.000000 7/8 sh f(0x1, 0xff) = 0x2a
{"time":"2024-01-02T03:04:05Z","pid":7,"tid":8,"comm":"sh","function":"open?","args":["0x1","0xff"]}
`
	if diff := cmp.Diff(want, string(p.take())); diff != "" {
		t.Error(diff)
	}
	if p.seen != 4 || p.lost != 1 || p.calls.Unentered != 1 || p.take() != nil {
		t.Errorf("%d seen, %d lost, %d unentered", p.seen, p.lost, p.calls.Unentered)
	}
}
