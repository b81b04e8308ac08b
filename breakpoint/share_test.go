package breakpoint

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Several callers share one address: each is told while it is armed, and the int3
// goes with the last of them.
func TestShared(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	var told []string
	insert := func(name string, o *InsertOptions) *Breakpoint {
		t.Helper()
		b, err := e.InsertWith(g.space(), textVA+0x104, func(*xen.Request) xen.Response {
			told = append(told, name)
			return xen.Response{}
		}, o)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	expect := func(what string, inPlace bool, want ...string) {
		t.Helper()
		if got := g.text()[0x104] == int3; got != inPlace {
			t.Errorf("%s: in place %v", what, got)
		}
		told = nil
		if got := e.Handle(hit(textVA + 0x104)); len(want) > 0 && got.Action != xen.EmulateInsn {
			t.Errorf("%s: %+v", what, got)
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s: told %v, want %v", what, told, want)
		}
	}
	a := insert("a", nil)
	b := insert("b", nil)
	c := insert("c", &InsertOptions{Disarmed: true})
	expect("two of three armed", true, "a", "b")
	a.Disarm()
	expect("one armed", true, "b")
	if err := errors.Join(c.Arm(), c.Arm()); err != nil {
		t.Fatal(err)
	}
	expect("another armed", true, "b", "c")
	b.Disarm()
	c.Disarm()
	expect("on its way when the last disarmed", false, "c")
	if err := a.Arm(); err != nil {
		t.Fatal(err)
	}
	expect("the first armed again", true, "a")
	paused := g.pauses
	if err := errors.Join(c.Remove(), b.Remove(), b.Remove()); err != nil {
		t.Fatal(err)
	}
	if g.pauses != paused {
		t.Error("paused though no byte changes")
	}
	expect("the others removed", true, "a")
	if err := a.Remove(); err != nil {
		t.Fatal(err)
	}
	expect("all removed", false)
	if got := e.Stats(); got.Hits != 6 || got.Stale != 1 || len(g.injected) != 0 {
		t.Errorf("%+v, injected %v", got, g.injected)
	}
	if n, _ := a.Hits(); n != 3 {
		t.Errorf("%d hits of a", n)
	}
	if err := errors.Join(e.Close(), a.Remove()); err != nil {
		t.Error(err)
	}
	if a.Disarm(); !errors.Is(a.Arm(), os.ErrClosed) {
		t.Error("armed after Close")
	}
}

// The last answer that wants more than to go on is the one.
func TestSharedAnswers(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	want := xen.Response{Switch: true, View: 3, Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 7}}
	for _, a := range []xen.Response{{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 6}}, want, {}} {
		if _, err := e.Insert(g.space(), textVA+0x104, func(*xen.Request) xen.Response { return a }); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.Handle(hit(textVA + 0x104)); got != want {
		t.Errorf("answer %+v, want %+v", got, want)
	}
}

func TestConditions(t *testing.T) {
	regs := xen.Registers{CR3: 0x5cdb801, RDI: 1, RSI: 2, RDX: 3, RCX: 4, R8: 5, R9: 6}
	for _, tc := range []struct {
		name string
		when Condition
		want bool
	}{
		{"root", InRoot(0x5cda000), true},
		{"root with a PCID and the no-flush bit", InRoot(0x5cda001 | 1<<63), true},
		{"another root", InRoot(0x5cde000), false},
		{"argument 0", ArgumentIs(0, 1), true},
		{"argument 1", ArgumentIs(1, 2), true},
		{"argument 2", ArgumentIs(2, 3), true},
		{"argument 3", ArgumentIs(3, 4), true},
		{"argument 4", ArgumentIs(4, 5), true},
		{"argument 5", ArgumentIs(5, 6), true},
		{"argument 6", ArgumentIs(6, 0), false},
		{"another value", ArgumentIs(0, 2), false},
		{"both", All(InRoot(0x5cda000), ArgumentIs(0, 1)), true},
		{"one of both", All(InRoot(0x5cda000), ArgumentIs(0, 2)), false},
		{"of no more", All(), true},
	} {
		g := newGuest()
		e := New(g, g)
		b, err := e.InsertWith(g.space(), textVA+0x104, quiet, &InsertOptions{When: tc.when})
		if err != nil {
			t.Fatal(err)
		}
		r := hit(b.Addr())
		r.Regs = regs
		r.Regs.RIP = uint64(b.Addr())
		if got := e.Handle(r); got.Action != xen.EmulateInsn {
			t.Errorf("%s: %+v", tc.name, got)
		}
		hits, passed := b.Hits()
		if (hits == 1) != tc.want || hits+passed != 1 || e.Stats().Hits != 1 {
			t.Errorf("%s: %d hits, %d passed over", tc.name, hits, passed)
		}
		if n := testing.AllocsPerRun(100, func() { e.Handle(r) }); n != 0 {
			t.Errorf("%s: %v allocations", tc.name, n)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A one-shot breakpoint fires once, also if more vCPUs are on their way, and again
// when it is armed again.
func TestOneShot(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	n, again := 0, true
	var b *Breakpoint
	b, err := e.InsertWith(g.space(), textVA+0x104, func(*xen.Request) xen.Response {
		if n++; again {
			again = false
			if err := b.Arm(); err != nil {
				t.Error(err)
			}
		}
		return xen.Response{}
	}, &InsertOptions{OneShot: true, When: ArgumentIs(0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := hit(b.Addr())
	r.Regs.RDI = 2
	for i, tc := range []struct {
		rdi     uint64
		n       int
		inPlace bool
	}{{2, 0, true}, {1, 1, true}, {1, 2, false}, {1, 2, false}} {
		r.Regs.RIP, r.Regs.RDI = uint64(b.Addr()), tc.rdi
		if got := e.Handle(r); got.Action != xen.EmulateInsn || n != tc.n || (g.text()[0x104] == int3) != tc.inPlace {
			t.Errorf("hit %d: %v, %d fired, byte %#x", i, got.Action, n, g.text()[0x104])
		}
	}
}

// No strategy allocates at a hit.
func TestWaysAllocateNothing(t *testing.T) {
	for how := Automatic; how <= ViewTwoTrips; how++ {
		m := newMachine(1)
		s, e := viewEngine(t, m, how)
		b, err := e.InsertWith(m.space(), textVA+0x104, quiet, &InsertOptions{When: ArgumentIs(0, 0)})
		if err != nil {
			t.Fatal(err)
		}
		r, step := inView(b.Addr(), e.View()), &xen.Request{Reason: xen.ReasonSingleStep, View: s.clean}
		read := &xen.Request{Reason: xen.ReasonMemAccess, View: e.View(), Access: xen.MemAccess{GFN: textGFN, Read: true}}
		if n := testing.AllocsPerRun(100, func() {
			e.Handle(r)
			s.HandleSingleStep(step)
			s.HandleMemAccess(read)
			s.HandleSingleStep(step)
		}); n != 0 {
			t.Errorf("%v: %v allocations", how, n)
		}
		if err := errors.Join(e.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A handler's switch is that after the step.
func TestSwitchAfterStep(t *testing.T) {
	for how, want := range map[Strategy]xen.Response{
		ViewFastStep: {Step: xen.FastStep, Switch: true, View: 1, StepView: 7},
		ViewEmulate:  {Action: xen.EmulateInsn, Insn: insn(0x55), Switch: true, View: 7},
		ViewTwoTrips: {Step: xen.ToggleStep, Switch: true, View: 1},
	} {
		m := newMachine(1)
		s, e := viewEngine(t, m, how)
		b, err := e.Insert(m.space(), textVA+vmi.VirtAddr(0x104), func(*xen.Request) xen.Response {
			return xen.Response{Switch: true, View: 7}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Handle(inView(b.Addr(), e.View())); got != want {
			t.Errorf("%v: %+v, want %+v", how, got, want)
		}
		if how == ViewTwoTrips {
			got, want := s.HandleSingleStep(&xen.Request{VCPU: 1}), xen.Response{Switch: true, View: 7, Step: xen.ToggleStep}
			if got != want {
				t.Errorf("%v: then %+v, want %+v", how, got, want)
			}
		}
		if err := errors.Join(e.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A breakpoint that comes and goes while vCPUs are on their way from it is never taken
// for an int3 of the guest's own.
func TestComesAndGoes(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	const at = textVA + 0x100
	once := func(hits bool) error {
		b, err := e.Insert(g.space(), at, func(*xen.Request) xen.Response { return xen.Response{} })
		if err != nil {
			return err
		}
		if hits { // on one processor as well
			runtime.Gosched()
		}
		return b.Remove()
	}
	if err := once(false); err != nil { // before the first event
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20000 {
			if err := once(i%1000 == 0); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for events := 0; ; events++ {
		e.Handle(hit(at))
		select {
		case <-done:
			s := e.Stats()
			if len(g.injected) != 0 || s.Foreign != 0 || s.Hits == 0 {
				t.Errorf("%d events, %+v", events, s)
			}
			return
		default:
		}
	}
}
