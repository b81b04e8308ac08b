package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/xen"
)

func TestUsage(t *testing.T) {
	refused := sessiontest.Refusing(t, func(ctx context.Context, args []string, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	refused("-domain is missing")
	refused(`unexpected argument "extra"`, "-domain", "g", "extra")
	refused("one of -symbol, -addr and -gfn", "-domain", "g")
	refused("one of -symbol, -addr and -gfn", "-domain", "g", "-symbol", "a", "-gfn", "1")
	refused("-offset goes with", "-domain", "g", "-symbol", "a", "-offset", "1")
	refused("-len 0", "-domain", "g", "-symbol", "a", "-len", "0")
	refused("-len 99999999", "-domain", "g", "-symbol", "a", "-len", "99999999")
	refused("lead out of the frame", "-domain", "g", "-gfn", "1", "-offset", "4095", "-len", "2")
	refused(`-gfn "x"`, "-domain", "g", "-gfn", "x")
	refused(`-addr "x"`, "-domain", "g", "-addr", "x")
	refused("other letters", "-domain", "g", "-symbol", "a", "-access", "rq")
	refused("other letters", "-domain", "g", "-symbol", "a", "-access", "")
	refused("-n -1", "-domain", "g", "-symbol", "a", "-n", "-1")
}

func TestLeaves(t *testing.T) {
	for want, list := range map[xen.Access][]kinds{
		xen.AccessN:  {{read: true}, {read: true, write: true}, {read: true, write: true, execute: true}},
		xen.AccessR:  {{write: true, execute: true}},
		xen.AccessRX: {{write: true}},
		xen.AccessRW: {{execute: true}},
	} {
		for _, k := range list {
			if got := k.leaves(); got != want {
				t.Errorf("%+v: %v, want %v", k, got, want)
			}
		}
	}
}

// The instruction's operand decides whether an access reaches into the range.
func TestWatch(t *testing.T) {
	ended := 0
	insn := ""
	w := &watch{
		target: target{spans: map[xen.GFN]span{5: {0x100, 0x104}}}, kinds: kinds{write: true}, limit: 3, json: true,
		now:  func() time.Time { return time.Unix(0, 0) },
		code: func(_ *xen.Registers, p []byte) int { return copy(p, insn) },
		who:  func(*xen.Registers) (int32, int32, string, error) { return 7, 8, "sh", nil },
		name: func(va uint64) string { return "" },
		end:  func() { ended++ },
	}
	const movq, movb, unknown = "\x48\x89\x07", "\x88\x07", "\x0f\xff"
	for _, a := range []struct {
		insn string
		xen.MemAccess
	}{
		{movq, xen.MemAccess{GFN: 5, Offset: 0xf8, Read: true, Write: true}},  // up to it
		{movq, xen.MemAccess{GFN: 5, Offset: 0xfc, Read: true, Write: true}},  // into it
		{movb, xen.MemAccess{GFN: 5, Offset: 0x103, Read: true, Write: true}}, // its last byte
		{movb, xen.MemAccess{GFN: 5, Offset: 0x104, Read: true, Write: true}}, // behind it
		{movb, xen.MemAccess{GFN: 5, Offset: 0x100, Read: true}},              // a read
		{movb, xen.MemAccess{GFN: 6, Offset: 0x100, Read: true, Write: true}},
		{unknown, xen.MemAccess{GFN: 5, Offset: 0x100, Write: true, Addr: 0x1100, AddrValid: true}},
		{movb, xen.MemAccess{GFN: 5, Offset: 0x101, Write: true}}, // beyond the limit
	} {
		insn = a.insn
		w.saw(&xen.Request{Access: a.MemAccess})
	}
	var got []access
	for d := json.NewDecoder(bytes.NewReader(w.take())); d.More(); {
		var a access
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		got = append(got, a)
	}
	epoch := time.Unix(0, 0)
	want := []access{
		{Time: epoch, PID: 7, TID: 8, Comm: "sh", Access: "write", Bytes: 8, Frame: "0x5", Offset: "0xfc", RIP: "0x0"},
		{Time: epoch, PID: 7, TID: 8, Comm: "sh", Access: "write", Bytes: 1, Frame: "0x5", Offset: "0x103", RIP: "0x0"},
		{Time: epoch, PID: 7, TID: 8, Comm: "sh", Access: "write", Frame: "0x5", Offset: "0x100", Address: "0x1100", RIP: "0x0"},
	}
	if diff := cmp.Diff(want, got); diff != "" || ended != 1 || w.beside != 5 {
		t.Errorf("ended %d times, %d beside\n%s", ended, w.beside, diff)
	}
}

func TestLine(t *testing.T) {
	w := &watch{}
	w.print(access{TID: 8, Comm: "sh", Access: "write", Bytes: 4, Frame: "0x5", Offset: "0x10", Address: "0xffffffff82000010", Symbol: "panic_timeout", RIP: "0xffffffff81000000", By: "f+0x3"})
	const want = "sh[8] write 4 bytes at frame 0x5+0x10, 0xffffffff82000010 (panic_timeout) by f+0x3 at 0xffffffff81000000\n"
	if got := string(w.take()); got != want {
		t.Errorf("%q", got)
	}
}

// fakeDomain notes what is done to it.
type fakeDomain struct {
	on, paused bool
	view       xen.View
	closed     map[xen.GFN]xen.Access
	fail       string
	noAltP2M   bool
	noted      []xen.GFN
}

var errFake = errors.New("fake")

func (d *fakeDomain) try(op string) error {
	if d.fail == op {
		return errFake
	}
	return nil
}

func (d *fakeDomain) AltP2M() (bool, error) {
	if d.noAltP2M {
		return false, xen.ErrNotSupported
	}
	return d.on, nil
}

func (d *fakeDomain) SetAltP2M(on bool) error {
	if on {
		if err := d.try("on"); err != nil {
			return err
		}
	} else {
		d.view, d.closed = 0, nil
	}
	d.on = on
	return nil
}

func (d *fakeDomain) CreateView() (xen.View, error) { return 3, d.try("create") }

func (d *fakeDomain) SetViewAccess(_ xen.View, gfn xen.GFN, a xen.Access) error {
	if d.closed == nil {
		d.closed = map[xen.GFN]xen.Access{}
	}
	d.closed[gfn] = a
	return d.try("access")
}

func (d *fakeDomain) SwitchView(v xen.View) error {
	if v != 0 {
		if err := d.try("switch"); err != nil {
			return err
		}
	}
	d.view = v
	return nil
}

func (d *fakeDomain) Restricting(first xen.GFN, n uint32) error {
	if n != 1 {
		return errFake
	}
	d.noted = append(d.noted, first)
	return d.try("note")
}

func (d *fakeDomain) Pause() error   { d.paused = true; return nil }
func (d *fakeDomain) Unpause() error { d.paused = false; return nil }

// fakeMonitor is the domain's own access.
type fakeMonitor struct{ closed map[xen.GFN]xen.Access }

func (m *fakeMonitor) EnableSingleStep() error { return nil }

func (m *fakeMonitor) SetAccess(first xen.GFN, n uint32, a xen.Access) error {
	m.closed[first] = a
	return nil
}

func TestViewFence(t *testing.T) {
	spans := target{spans: map[xen.GFN]span{5: {0, 8}, 6: {0, 8}}}
	d := &fakeDomain{}
	f, err := newFence(d, &fakeMonitor{}, spans, xen.AccessRX, false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[xen.GFN]xen.Access{5: xen.AccessRX, 6: xen.AccessRX}
	if !cmp.Equal(want, d.closed) || d.view != 3 {
		t.Errorf("%+v", d)
	}
	if a := f.access(&xen.Request{}); a != (xen.Response{Switch: true, Step: xen.FastStep, StepView: 3}) {
		t.Errorf("%+v", a)
	}
	for range 2 {
		if err := f.open(); err != nil || d.on || d.view != 0 || d.paused {
			t.Errorf("%v, %+v", err, d)
		}
	}
	// What fails half-way leaves nothing behind.
	for _, op := range []string{"on", "create", "access", "switch"} {
		d := &fakeDomain{fail: op}
		if _, err := newFence(d, &fakeMonitor{}, spans, xen.AccessRX, false); !errors.Is(err, errFake) || d.on || d.view != 0 || d.paused {
			t.Errorf("%s: %v, %+v", op, err, d)
		}
	}
	if _, err := newFence(&fakeDomain{on: true}, &fakeMonitor{}, spans, xen.AccessRX, false); !errors.Is(err, xen.ErrBusy) {
		t.Errorf("altp2m in use: %v", err)
	}
}

func TestDomainFence(t *testing.T) {
	m := &fakeMonitor{closed: map[xen.GFN]xen.Access{}}
	spans := target{spans: map[xen.GFN]span{5: {0, 8}, 6: {0, 8}}}
	if _, err := newFence(&fakeDomain{noAltP2M: true, fail: "note"}, m, spans, xen.AccessRX, false); !errors.Is(err, errFake) || len(m.closed) > 0 {
		t.Errorf("not written down: %v, but done: %v", err, m.closed)
	}
	d := &fakeDomain{noAltP2M: true}
	f, err := newFence(d, m, spans, xen.AccessRX, false)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(d.noted); !slices.Equal(d.noted, []xen.GFN{5, 6}) {
		t.Errorf("written down: %v", d.noted)
	}
	at := func(v xen.VCPU, gfn xen.GFN) *xen.Request {
		return &xen.Request{VCPU: v, Access: xen.MemAccess{GFN: gfn}}
	}
	check := func(what string, five, six xen.Access) {
		t.Helper()
		if m.closed[5] != five || m.closed[6] != six {
			t.Errorf("%s: %v", what, m.closed)
		}
	}
	step := xen.Response{Step: xen.ToggleStep}
	if a := f.access(at(0, 5)); a != step {
		t.Errorf("%+v", a)
	}
	check("one", xen.AccessRWX, xen.AccessRX)
	if a := f.access(at(0, 6)); a != (xen.Response{}) { // the same instruction
		t.Errorf("%+v", a)
	}
	if a := f.access(at(1, 5)); a != step {
		t.Errorf("%+v", a)
	}
	f.step(at(0, 0))
	check("vCPU 1 has one of them open", xen.AccessRWX, xen.AccessRX)
	if a := f.step(at(1, 0)); a != step {
		t.Errorf("%+v", a)
	}
	check("none", xen.AccessRX, xen.AccessRX)
	if err := f.open(); err != nil {
		t.Error(err)
	}
}
