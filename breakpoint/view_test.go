package breakpoint

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

var errRefused = errors.New("refused")

func inView(va vmi.VirtAddr, v xen.View) *xen.Request { r := hit(va); r.View = v; return r }
func quiet(*xen.Request) xen.Response                 { return xen.Response{} }

// viewEngine opens views with an engine, and has its handlers answer.
func viewEngine(t testing.TB, m *machine, how Strategy) (*Views, *Engine) {
	t.Helper()
	s, err := OpenViews(m, m, &ViewsOptions{Strategy: how})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.NewEngine(m)
	if err != nil {
		t.Fatal(err)
	}
	m.handlers = map[xen.Reason]xen.Handler{
		xen.ReasonSoftwareBreakpoint: e.Handle,
		xen.ReasonMemAccess:          s.HandleMemAccess,
		xen.ReasonSingleStep:         s.HandleSingleStep,
	}
	m.idle = func() { m.endSteps(m.run, m.answer) }
	return s, e
}

func (m *machine) check(t *testing.T) {
	t.Helper()
	for _, w := range m.wrong {
		t.Error(w)
	}
	if m.mapped != 0 || m.paused != 0 {
		t.Errorf("%d frames still mapped, paused %d times", m.mapped, m.paused)
	}
}

// Breakpoints are in a copy of the frame; the guest's own stays as it is.
func TestViewHasItsOwnFrames(t *testing.T) {
	m := newMachine(2)
	before := bytes.Clone(m.text())
	s, e := viewEngine(t, m, Automatic)
	for _, off := range []vmi.VirtAddr{0x100, 0x104} {
		if _, err := e.Insert(m.space(), textVA+off, quiet); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(before, m.text()) {
		t.Error("the guest's own frames have changed")
	}
	shadow := m.pages[0x19]
	if shadow[0x100] != int3 || shadow[0x104] != int3 || !bytes.Equal(shadow[0x105:], before[0x105:]) {
		t.Errorf("the view's frame is % x", shadow[0x100:0x108])
	}
	if got := e.Handle(inView(textVA+0x104, e.View())); got.Step != xen.FastStep || got.StepView != e.View() {
		t.Errorf("a hit in the view: %+v", got)
	}
	// The same address outside is the guest's business.
	if got := e.Handle(inView(textVA+0x104, 0)); got != (xen.Response{}) || len(m.injected) != 0 {
		t.Errorf("outside, where there is no int3: %+v, injected %v", got, m.injected)
	}
	m.text()[0x104] = int3
	if e.Handle(inView(textVA+0x104, 0)); len(m.injected) != 1 {
		t.Error("an int3 of the guest's own is not given back")
	}
	if err := errors.Join(e.Close(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"info", "state", "maximum", "altp2m true", "create",
		"populate 0x18", "own: 0x18 n", "view 1: 0x18 rwx", "create",
		"populate 0x19", "view 2: 0x10 -> 0x19", "view 2: 0x10 x",
		"own: 0x19 n", "view 1: 0x19 -> 0x18", "view 1: 0x19 rwx",
		"altp2m false", "remove 0x18", "remove 0x19",
	}
	if diff := cmp.Diff(want, m.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	m.check(t)
}

// What the guest changes in its own frame is taken over, and a breakpoint that it
// patches over is its own, until the byte comes back.
func TestViewFollowsTheGuest(t *testing.T) {
	m := newMachine(2)
	s, e := viewEngine(t, m, ViewEmulate)
	copy(m.text()[0x108:], []byte{0xe8, 1, 0, 0, 0, 0x90}) // call
	for _, off := range []vmi.VirtAddr{0x100, 0x104, 0x108} {
		if _, err := e.Insert(m.space(), textVA+off, quiet); err != nil {
			t.Fatal(err)
		}
	}
	e.Refresh()
	if n := e.Stats().Refreshed; n != 0 {
		t.Errorf("%d frames refreshed without need", n)
	}
	m.text()[0x104], m.text()[0x700] = 0x53, 0xc3
	e.Refresh()
	shadow := m.pages[0x19]
	if shadow[0x100] != int3 || shadow[0x104] != 0x53 || shadow[0x700] != 0xc3 {
		t.Errorf("the view has % x", []byte{shadow[0x100], shadow[0x104], shadow[0x700]})
	}
	if got := e.Stats(); got.Refreshed != 1 || got.Overwritten != 1 || got.Writes != 0 {
		t.Errorf("stats %+v", got)
	}
	m.text()[0x104] = 0x55
	e.Refresh()
	if shadow[0x104] != int3 {
		t.Errorf("the view has %#x where the original came back", shadow[0x104])
	}

	// The kernel patches a call behind an int3 of its own, which it handles itself.
	m.text()[0x108] = int3
	e.Refresh()
	e.Handle(inView(textVA+0x108, e.View()))
	if len(m.injected) != 1 || e.Stats().Hits != 0 {
		t.Errorf("the guest's own int3: injected %v, %+v", m.injected, e.Stats())
	}
	m.text()[0x109] = 2
	e.Refresh()
	m.text()[0x108] = 0xe8
	e.Refresh()
	if got, want := e.Handle(inView(textVA+0x108, e.View())).Insn, insn(0xe8, 2, 0, 0, 0); got != want || shadow[0x108] != int3 {
		t.Errorf("after it the view has %#x, and % x is emulated, want % x", shadow[0x108], got, want)
	}
	if err := errors.Join(e.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	m.check(t)
}

// Reads of code with breakpoints see the original, writes go through and are taken
// over, and the frames of the views are as no memory is, whatever view it is.
func TestViewHides(t *testing.T) {
	for how := ViewByInstruction; how <= ViewTwoTrips; how++ {
		m := newMachine(1)
		s, e := viewEngine(t, m, how)
		copy(m.text()[0x100:], []byte{opLoad, opStore, opLoad, 0x55})
		hits := 0
		b, err := e.Insert(m.space(), textVA+0x103, func(*xen.Request) xen.Response { hits++; return xen.Response{} })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Switch(e.View()); err != nil {
			t.Fatal(err)
		}
		v := m.vcpus[0]
		run := func(data uint64) []byte {
			v.rip, v.data, v.loaded, v.done = uint64(textVA)+0x100, data, nil, nil
			m.settled(func(v *vcpu) bool { return v.rip == uint64(textVA)+0x104 })
			return v.loaded
		}
		in := func(gfn xen.GFN, off uint64) uint64 { return uint64(gfn)*xen.PageSize + off }

		for _, view := range []xen.View{e.View(), 0} {
			v.view = view
			if got := run(in(textGFN, 0x103)); !slices.Equal(got, []byte{0x55, 1}) {
				t.Errorf("%v, view %d: reads % x of the breakpoint's byte and of what it wrote there", how, view, got)
			}
			m.text()[0x103] = 0x55
			e.Refresh()
			for gfn := m.last + 1; gfn < s.next; gfn++ {
				if got := run(in(gfn, 0x103)); !slices.Equal(got, []byte{noMemory, noMemory}) {
					t.Errorf("%v, view %d: reads % x at %v", how, view, got, gfn)
				}
			}
			if v.view != view {
				t.Errorf("%v: in view %d, was in %d", how, v.view, view)
			}
		}
		// In the view each run passes over the breakpoint, but where it has
		// written to it.
		n, _ := b.Hits()
		st := e.Stats()
		if hits != 2 || n != 2 || st.Reads != 2 || st.Writes != 1 || s.Probes() != 2*2*3 {
			t.Errorf("%v: %d hits, %d, %d probes, %+v", how, hits, n, s.Probes(), st)
		}
		if err := errors.Join(e.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		m.check(t)
	}
}

// A guest that is allowed to read the view's frames does so without an event.
func TestViewReadable(t *testing.T) {
	m := newMachine(1)
	s, err := OpenViews(m, m, &ViewsOptions{Readable: true})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.NewEngine(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Insert(m.space(), textVA+0x104, quiet); err != nil {
		t.Fatal(err)
	}
	if got := m.views[e.View()][textGFN].access; got != xen.AccessRX {
		t.Errorf("the frame may be accessed %v", got)
	}
	if err := errors.Join(e.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	m.check(t)
}

// A single step of nobody's is ended.
func TestStepOfNobody(t *testing.T) {
	m := newMachine(1)
	s, e := viewEngine(t, m, Automatic)
	done := &xen.Request{Reason: xen.ReasonSingleStep}
	if got, want := s.HandleSingleStep(done), (xen.Response{Step: xen.ToggleStep}); got != want {
		t.Errorf("answer to a step of no write: %+v, want %+v", got, want)
	}
	if err := errors.Join(e.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// Closing waits for a step that Xen ends by itself, and says so if it does not end.
func TestCloseSettles(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		m := newMachine(1)
		s, e := viewEngine(t, m, ViewFastStep)
		m.text()[0x104] = 0x55
		if _, err := e.Insert(m.space(), textVA+0x104, quiet); err != nil {
			t.Fatal(err)
		}
		if err := s.Switch(e.View()); err != nil {
			t.Fatal(err)
		}
		v := m.vcpus[0]
		v.rip = uint64(textVA) + 0x104
		m.run(v)
		m.answer()
		if v.view != s.clean || !v.fast {
			t.Fatalf("vCPU %+v", v)
		}
		idle := m.idle
		m.idle = nil
		err := e.Close()
		if !stuck {
			m.idle = idle
		}
		err = errors.Join(err, s.Close())
		if (err != nil) != stuck {
			t.Errorf("stuck %v: %v", stuck, err)
		}
		if v.step != stuck || m.on {
			t.Errorf("stuck %v: vCPU %+v, altp2m %v", stuck, v, m.on)
		}
		m.check(t)
	}
}

// Whatever fails is undone.
func TestViewFailures(t *testing.T) {
	for _, fail := range []string{
		"populate 0x19", "view 2: 0x10 -> 0x19", "view 2: 0x10 x", "own: 0x19 n", "view 1: 0x19 -> 0x18", "view 1: 0x19 rwx",
	} {
		m := newMachine(2)
		s, e := viewEngine(t, m, Automatic)
		m.fail = fail
		if _, err := e.Insert(m.space(), textVA+0x100, quiet); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", fail, err)
		}
		if m.mapped != 1 { // the sink
			t.Errorf("%s: %d frames still mapped", fail, m.mapped)
		}
		removed, reset := 0, 0
		if err := errors.Join(e.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		changed := fail != "populate 0x19" && fail != "view 2: 0x10 -> 0x19"
		for _, c := range m.calls {
			switch c {
			case "remove 0x19":
				removed++
				if changed != (reset == 1) {
					t.Errorf("%s: frame removed, view reset %d times before", fail, reset)
				}
			case "view 2: 0x10 reset":
				reset++
			}
		}
		if want := map[bool]int{true: 1}[fail != "populate 0x19"]; removed != want {
			t.Errorf("%s: frame removed %d times, want %d", fail, removed, want)
		}
		m.check(t)
	}
	for _, fail := range []string{
		"info", "state", "maximum", "altp2m true", "create", "populate 0x18", "own: 0x18 n", "view 1: 0x18 rwx",
	} {
		m := newMachine(2)
		m.fail = fail
		if _, err := OpenViews(m, m, nil); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", fail, err)
		}
		if m.on {
			t.Errorf("%s: altp2m is on", fail)
		}
		m.check(t)
	}
	m := newMachine(2)
	m.on = true
	if _, err := OpenViews(m, m, nil); !errors.Is(err, xen.ErrBusy) || !m.on {
		t.Errorf("altp2m on already: %v", err)
	}
	if _, err := OpenViews(newMachine(1), m, &ViewsOptions{Strategy: PatchedByte}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("views for patched bytes: %v", err)
	}
}
