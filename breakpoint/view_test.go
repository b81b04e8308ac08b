package breakpoint

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// viewGuest is a guest with altp2m.
type viewGuest struct {
	*guest
	on      bool
	calls   []string
	fail    string // the call that fails
	changed map[xen.GFN]xen.GFN
}

var errRefused = errors.New("refused")

func newViewGuest() *viewGuest { return &viewGuest{guest: newGuest(), changed: map[xen.GFN]xen.GFN{}} }

func (g *viewGuest) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	g.calls = append(g.calls, c)
	if c == g.fail {
		return errRefused
	}
	return nil
}

func (g *viewGuest) AltP2M() (bool, error)         { return g.on, g.call("state") }
func (g *viewGuest) SetAltP2M(on bool) error       { g.on = on; return g.call("altp2m %v", on) }
func (g *viewGuest) CreateView() (xen.View, error) { return 5, g.call("create") }
func (g *viewGuest) SwitchView(v xen.View) error   { return g.call("switch %d", v) }

func (g *viewGuest) ChangeGFN(v xen.View, from, to xen.GFN) error {
	g.changed[from] = to
	return g.call("view %d: %v -> %v", v, from, to)
}

func (g *viewGuest) ResetGFN(v xen.View, gfn xen.GFN) error {
	return g.call("view %d: %v reset", v, gfn)
}

func (g *viewGuest) SetViewAccess(v xen.View, gfn xen.GFN, a xen.Access) error {
	return g.call("view %d: %v %v", v, gfn, a)
}

func (g *viewGuest) MaximumGPFN() (xen.GFN, error)    { return 0x17, g.call("maximum") }
func (g *viewGuest) Populate(gfn xen.GFN) error       { return g.call("populate %v", gfn) }
func (g *viewGuest) RemoveFrame(gfn xen.GFN) error    { return g.call("remove %v", gfn) }
func (g *viewGuest) page(gfn xen.GFN) []byte          { return g.memory[int(gfn)*xen.PageSize:][:xen.PageSize] }
func inView(va vmi.VirtAddr, v xen.View) *xen.Request { r := hit(va); r.View = v; return r }
func quiet(*xen.Request) xen.Response                 { return xen.Response{} }
func viewEngine(t *testing.T, g *viewGuest) (*Views, *Engine) {
	t.Helper()
	s, err := OpenViews(g, g)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.NewEngine(g)
	if err != nil {
		t.Fatal(err)
	}
	return s, e
}

// Breakpoints are in a copy of the frame; the guest's own stays as it is.
func TestViewHasItsOwnFrames(t *testing.T) {
	g := newViewGuest()
	before := bytes.Clone(g.text())
	s, e := viewEngine(t, g)
	for _, off := range []vmi.VirtAddr{0x100, 0x104} {
		if _, err := e.Insert(g.space(), textVA+off, quiet); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(before, g.text()) {
		t.Error("the guest's own frames have changed")
	}
	shadow := g.page(0x18)
	if shadow[0x100] != int3 || shadow[0x104] != int3 || !bytes.Equal(shadow[0x105:], before[0x105:xen.PageSize]) {
		t.Errorf("the view's frame is % x", shadow[0x100:0x108])
	}
	if got := e.Handle(inView(textVA+0x104, e.View())); got.Action != xen.EmulateInsn {
		t.Errorf("a hit in the view: %+v", got)
	}
	// The same address outside is the guest's business.
	if got := e.Handle(inView(textVA+0x104, 0)); got != (xen.Response{}) || len(g.injected) != 0 {
		t.Errorf("outside, where there is no int3: %+v, injected %v", got, g.injected)
	}
	g.text()[0x104] = int3
	if e.Handle(inView(textVA+0x104, 0)); len(g.injected) != 1 {
		t.Error("an int3 of the guest's own is not given back")
	}
	if err := errors.Join(e.Close(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"state", "maximum", "altp2m true", "create",
		"populate 0x18", "view 5: 0x10 -> 0x18", "view 5: 0x10 rx",
		"altp2m false", "remove 0x18",
	}
	if diff := cmp.Diff(want, g.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if g.mapped != 0 || g.paused != 0 {
		t.Errorf("%d frames still mapped, paused %d times", g.mapped, g.paused)
	}
}

// What the guest changes in its own frame is taken over, and a breakpoint that it
// patches over is its own.
func TestViewFollowsTheGuest(t *testing.T) {
	g := newViewGuest()
	s, e := viewEngine(t, g)
	for _, off := range []vmi.VirtAddr{0x100, 0x104} {
		if _, err := e.Insert(g.space(), textVA+off, quiet); err != nil {
			t.Fatal(err)
		}
	}
	e.Refresh()
	if n := e.Stats().Refreshed; n != 0 {
		t.Errorf("%d frames refreshed without need", n)
	}
	g.text()[0x104], g.text()[0x700] = 0x53, 0xc3
	e.Refresh()
	shadow := g.page(0x18)
	if shadow[0x100] != int3 || shadow[0x104] != 0x53 || shadow[0x700] != 0xc3 {
		t.Errorf("the view has % x", []byte{shadow[0x100], shadow[0x104], shadow[0x700]})
	}
	if got := e.Stats(); got.Refreshed != 1 || got.Overwritten != 1 || got.Writes != 0 {
		t.Errorf("stats %+v", got)
	}
	// A write in the view goes to the guest's own frame, and is seen when the vCPU
	// comes back.
	at := &xen.Request{Reason: xen.ReasonMemAccess, VCPU: 1, View: 5, Access: xen.MemAccess{GFN: textGFN, Write: true}}
	if got, want := s.HandleMemAccess(at), (xen.Response{Switch: true, View: 0, Step: xen.ToggleStep}); got != want {
		t.Errorf("answer to a write: %+v, want %+v", got, want)
	}
	g.text()[0x701] = 0xc3
	done := &xen.Request{Reason: xen.ReasonSingleStep, VCPU: 1, View: 0}
	if got, want := s.HandleSingleStep(done), (xen.Response{Switch: true, View: 5, Step: xen.ToggleStep}); got != want {
		t.Errorf("answer to the step: %+v, want %+v", got, want)
	}
	if got, want := s.HandleSingleStep(done), (xen.Response{Step: xen.ToggleStep}); got != want {
		t.Errorf("answer to a step of no write: %+v, want %+v", got, want)
	}
	if shadow[0x701] != 0xc3 || e.Stats().Writes != 1 || e.Stats().Refreshed != 2 {
		t.Errorf("the view has %#x after the write; %+v", shadow[0x701], e.Stats())
	}
	if err := errors.Join(e.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// Whatever fails is undone.
func TestViewFailures(t *testing.T) {
	for _, fail := range []string{"populate 0x18", "view 5: 0x10 -> 0x18", "view 5: 0x10 rx"} {
		g := newViewGuest()
		s, e := viewEngine(t, g)
		g.fail = fail
		if _, err := e.Insert(g.space(), textVA+0x100, quiet); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", fail, err)
		}
		if g.mapped != 0 {
			t.Errorf("%s: %d frames still mapped", fail, g.mapped)
		}
		removed, reset := 0, 0
		if err := errors.Join(e.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		for _, c := range g.calls {
			switch c {
			case "remove 0x18":
				removed++
				if (fail == "view 5: 0x10 rx") != (reset == 1) {
					t.Errorf("%s: frame removed, view reset %d times before", fail, reset)
				}
			case "view 5: 0x10 reset":
				reset++
			}
		}
		if want := map[bool]int{true: 1}[fail != "populate 0x18"]; removed != want {
			t.Errorf("%s: frame removed %d times, want %d", fail, removed, want)
		}
	}
	for _, fail := range []string{"state", "maximum", "altp2m true"} {
		g := newViewGuest()
		g.fail = fail
		if _, err := OpenViews(g, g); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", fail, err)
		}
	}
	g := newViewGuest()
	g.on = true
	if _, err := OpenViews(g, g); !errors.Is(err, xen.ErrBusy) || !g.on {
		t.Errorf("altp2m on already: %v", err)
	}
}
