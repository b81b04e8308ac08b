package cr3filter

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// guest is a small physical memory with one page of code at 0x400000; its altp2m
// works if it has any.
type guest struct {
	memory []byte
	altp2m error
	on     bool
	views  xen.View
	all    xen.View // that all vCPUs were switched to
	paused int
	pauses int
}

const (
	codeVA  = vmi.VirtAddr(0x400000)
	codeGFN = xen.GFN(5)
	int3    = 0xcc
)

func newGuest() *guest {
	g := &guest{memory: make([]byte, 0x20*xen.PageSize)}
	for i, e := range []struct{ table, index, frame int }{{1, 0, 2}, {2, 0, 3}, {3, 2, 4}, {4, 0, int(codeGFN)}} {
		_ = i
		binary.LittleEndian.PutUint64(g.memory[e.table*xen.PageSize+8*e.index:], uint64(e.frame)<<12|3)
	}
	copy(g.code(), []byte{0x55, 0x53, 0x90}) // push rbp; push rbx; nop
	return g
}

func (g *guest) page(gfn xen.GFN) []byte { return g.memory[int(gfn)*xen.PageSize:][:xen.PageSize] }
func (g *guest) code() []byte            { return g.page(codeGFN) }
func (g *guest) space() vmi.AddressSpace {
	return vmi.NewMemory(g, nil).AddressSpace(vmi.CR3(1 << xen.PageShift))
}

type frames struct {
	g    *guest
	gfns []xen.GFN
}

func (g *guest) MapFrames(gfns []xen.GFN, _ bool) (vmi.Frames, error) { return &frames{g, gfns}, nil }
func (f *frames) Len() int                                            { return len(f.gfns) }
func (f *frames) Close() error                                        { return nil }
func (f *frames) Frame(i int) ([]byte, error) {
	if int(f.gfns[i]) >= len(f.g.memory)/xen.PageSize {
		return nil, errors.New("no such frame")
	}
	return f.g.page(f.gfns[i]), nil
}

func (g *guest) InjectBreakpoint(xen.VCPU, uint8) error            { return nil }
func (g *guest) Pause() error                                      { g.paused++; g.pauses++; return nil }
func (g *guest) Unpause() error                                    { g.paused--; return nil }
func (g *guest) AltP2M() (bool, error)                             { return g.on, g.altp2m }
func (g *guest) SetAltP2M(on bool) error                           { g.on = on; return nil }
func (g *guest) CreateView() (xen.View, error)                     { g.views++; return g.views, nil }
func (g *guest) SwitchView(v xen.View) error                       { g.all = v; return nil }
func (g *guest) ChangeGFN(xen.View, xen.GFN, xen.GFN) error        { return nil }
func (g *guest) ResetGFN(xen.View, xen.GFN) error                  { return nil }
func (g *guest) SetViewAccess(xen.View, xen.GFN, xen.Access) error { return nil }
func (g *guest) SetOwnAccess(xen.GFN, xen.Access) error            { return nil }
func (g *guest) VCPUView(xen.VCPU) (xen.View, error)               { return g.all, nil }
func (g *guest) MaximumGPFN() (xen.GFN, error)                     { return 0x10, nil }
func (g *guest) Populate(xen.GFN) error                            { return nil }
func (g *guest) RemoveFrame(xen.GFN) error                         { return nil }
func (g *guest) Info() (xen.DomainInfo, error)                     { return xen.DomainInfo{}, nil }
func (g *guest) Registers(xen.VCPU) (*xen.Registers, error)        { return &xen.Registers{}, nil }
func quiet(*xen.Request) xen.Response                              { return xen.Response{} }
func insert(t *testing.T, g gate, s *guest, off int, always bool) *pin {
	t.Helper()
	p, err := g.insert(s.space(), codeVA+vmi.VirtAddr(off), quiet, always)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Bytes are patched while any vCPU is inside, and the guest of several vCPUs
// stands still for it.
func TestByteGate(t *testing.T) {
	s := newGuest()
	g := newByteGate(s, s, 2, false)
	before := s.pauses
	gated := insert(t, g, s, 0, false)
	insert(t, g, s, 1, true)
	inserting := s.pauses - before
	if inserting != 1 {
		t.Errorf("paused %d times to insert, want once: only the one for all vCPUs is put in place", inserting)
	}
	type state struct{ gated, always bool }
	var got []state
	step := func(f func() error) {
		if err := f(); err != nil {
			t.Error(err)
		}
		got = append(got, state{s.code()[0] == int3, s.code()[1] == int3})
	}
	step(func() error { return nil })
	step(func() error { return g.start([]bool{false, true}) })
	step(func() error { return g.enter(0, nil) })
	step(func() error { return g.enter(0, nil) }) // again
	step(func() error { return g.leave(1, nil) })
	step(func() error { return g.want(gated, false) })
	step(func() error { return g.want(gated, true) })
	step(func() error { return g.leave(0, nil) })
	step(func() error { return g.want(gated, false) })
	step(func() error { return g.enter(1, nil) }) // not wanted
	step(func() error { return g.leave(7, nil) }) // no such vCPU
	step(g.close)
	want := []state{
		{false, true}, {true, true}, {true, true}, {true, true}, {true, true}, {false, true}, {true, true},
		{false, true}, {false, true}, {false, true}, {false, true}, {false, false},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(state{})); diff != "" {
		t.Errorf("armed (-want +got):\n%s", diff)
	}
	// Entering first, leaving last, entering again, and closing.
	if n := s.pauses - before - inserting; n != 4 || s.paused != 0 {
		t.Errorf("paused %d times, now %d", n, s.paused)
	}
}

// Open, all vCPUs are inside for ever.
func TestOpenByteGate(t *testing.T) {
	s := newGuest()
	g := newByteGate(s, s, 1, true)
	p := insert(t, g, s, 0, false)
	if s.code()[0] != int3 {
		t.Error("not armed")
	}
	if err := errors.Join(g.start([]bool{true}), g.want(p, false)); err != nil || s.code()[0] == int3 {
		t.Errorf("armed while not wanted, %v", err)
	}
	if err := errors.Join(g.want(p, true), g.close()); err != nil || s.code()[0] != 0x55 {
		t.Errorf("byte %#x after closing, %v", s.code()[0], err)
	}
}

// A vCPU changes sides by the answer to its event, and sees breakpoints for all
// from outside in a view as well.
func TestViewGate(t *testing.T) {
	s := newGuest()
	views, err := breakpoint.OpenViews(s, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newViewGate(views, s, true)
	if err != nil {
		t.Fatal(err)
	}
	insert(t, g, s, 0, false)
	var r xen.Response
	if err := errors.Join(g.enter(0, &r)); err != nil || r != (xen.Response{Switch: true, View: 2}) {
		t.Errorf("enter: %+v, %v", r, err)
	}
	insert(t, g, s, 1, true)
	if err := g.leave(0, &r); err != nil || r != (xen.Response{Switch: true, View: 3}) {
		t.Errorf("leave with a view outside: %+v, %v", r, err)
	}
	for _, tt := range []struct {
		inside []bool
		want   xen.View
	}{{[]bool{false}, 3}, {[]bool{true}, 2}} {
		if err := g.start(tt.inside); err != nil || s.all != tt.want {
			t.Errorf("start with %v: view %d, want %d, %v", tt.inside, s.all, tt.want, err)
		}
	}
	at := func(off int, v xen.View) xen.Step {
		return g.handle(&xen.Request{
			View: v, Regs: xen.Registers{RIP: uint64(codeVA) + uint64(off)}, Breakpoint: xen.SoftwareBreakpoint{GFN: codeGFN},
		}).Step
	}
	if at(0, 2) != xen.FastStep || at(1, 2) != xen.FastStep || at(1, 3) != xen.FastStep {
		t.Error("a hit is not stepped over")
	}
	if at(0, 3) != xen.NoStep || at(0, 0) != xen.NoStep {
		t.Error("a hit outside of what is inside only")
	}
	if got := g.stats().Hits; got != 3 {
		t.Errorf("%d hits, want 3", got)
	}
	if err := errors.Join(g.close(), g.close()); err != nil || s.on || s.all != 0 || s.code()[0] != 0x55 {
		t.Errorf("after closing: altp2m %v, view %d, %v", s.on, s.all, err)
	}
}

// Without breakpoints for all, outside is the guest's own view.
func TestViewGateAlone(t *testing.T) {
	s := newGuest()
	views, err := breakpoint.OpenViews(s, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newViewGate(views, s, false)
	if err != nil {
		t.Fatal(err)
	}
	var r xen.Response
	if err := g.leave(0, &r); err != nil || r != (xen.Response{Switch: true, View: 0}) {
		t.Errorf("leave: %+v, %v", r, err)
	}
	if _, err := g.insert(s.space(), codeVA, quiet, true); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a breakpoint for all: %v", err)
	}
	if err := g.close(); err != nil || s.on {
		t.Errorf("after closing: altp2m %v, %v", s.on, err)
	}
}
