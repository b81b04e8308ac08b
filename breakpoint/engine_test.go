package breakpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

const (
	textVA    = vmi.VirtAddr(0xffffffff81000000)
	textGFN   = xen.GFN(0x10) // two frames of text
	tableGFN  = xen.GFN(1)    // four levels of page tables
	textPages = 2
)

// guest is a small physical memory whose text holds code at textVA.
type guest struct {
	memory   []byte
	mapped   int
	failMap  error
	injected []xen.VCPU
	paused   int
	pauses   int   // so far
	failure  error // of Pause
}

func newGuest() *guest {
	g := &guest{memory: make([]byte, 0x20*xen.PageSize)}
	entry := func(table xen.GFN, index int, gfn xen.GFN) {
		binary.LittleEndian.PutUint64(g.memory[int(table)*xen.PageSize+index*8:], uint64(gfn)<<12|3)
	}
	va := uint64(textVA)
	entry(tableGFN, int(va>>39&511), tableGFN+1)
	entry(tableGFN+1, int(va>>30&511), tableGFN+2)
	entry(tableGFN+2, int(va>>21&511), tableGFN+3)
	for i := range textPages {
		entry(tableGFN+3, int(va>>12&511)+i, textGFN+xen.GFN(i))
	}
	text := g.text()
	for i := range text {
		text[i] = 0x90
	}
	copy(text[0x100:], []byte{0xf3, 0x0f, 0x1e, 0xfa, 0x55})       // endbr64; push rbp
	copy(text[0x200:], []byte{0x0f, 0x05})                         // syscall
	copy(text[xen.PageSize-2:], []byte{0x48, 0x83, 0xec, 0x10})    // sub rsp, 16 across the frames
	copy(text[2*xen.PageSize-2:], []byte{0x55, 0x48})              // push rbp; the last frame ends
	copy(text[0x300:], []byte{0x0f, 0x1f, 0x44, 0x00, 0x00, 0x55}) // nop; push rbp
	return g
}

func (g *guest) text() []byte {
	return g.memory[int(textGFN)*xen.PageSize:][:textPages*xen.PageSize]
}

func (g *guest) space() vmi.AddressSpace {
	return vmi.NewMemory(g, nil).AddressSpace(vmi.CR3(tableGFN << xen.PageShift))
}

func (g *guest) InjectBreakpoint(v xen.VCPU, insnLength uint8) error {
	g.injected = append(g.injected, v)
	return nil
}

func (g *guest) Pause() error {
	if g.failure != nil {
		return g.failure
	}
	g.paused++
	g.pauses++
	return nil
}

func (g *guest) Unpause() error {
	g.paused--
	return nil
}

type frames struct {
	g    *guest
	gfns []xen.GFN
	done bool
}

func (g *guest) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	if writable {
		if g.failMap != nil {
			return nil, g.failMap
		}
		g.mapped++
		return &frames{g: g, gfns: gfns}, nil
	}
	return &frames{gfns: gfns, g: g, done: true}, nil
}

func (f *frames) Len() int { return len(f.gfns) }

func (f *frames) Frame(i int) ([]byte, error) {
	at := int(f.gfns[i]) * xen.PageSize
	if at >= len(f.g.memory) {
		return nil, errors.New("no such frame")
	}
	return f.g.memory[at : at+xen.PageSize], nil
}

func (f *frames) Close() error {
	if !f.done {
		f.g.mapped--
	}
	f.done = true
	return nil
}

func hit(va vmi.VirtAddr) *xen.Request {
	return &xen.Request{
		Reason:     xen.ReasonSoftwareBreakpoint,
		VCPU:       1,
		Regs:       xen.Registers{RIP: uint64(va)},
		Breakpoint: xen.SoftwareBreakpoint{GFN: textGFN + xen.GFN(va-textVA)/xen.PageSize, InsnLength: 1},
	}
}

func insn(code ...byte) (b [16]byte) {
	for i := range b {
		b[i] = 0x90
	}
	copy(b[:], code)
	return b
}

func TestHitIsEmulatedAndRestored(t *testing.T) {
	g := newGuest()
	before := bytes.Clone(g.memory)
	e := New(g, g)
	var rips []uint64
	handler := func(r *xen.Request) xen.Response {
		rips = append(rips, r.Regs.RIP)
		return xen.Response{}
	}
	for _, tc := range []struct {
		off  vmi.VirtAddr
		want [16]byte // emulated
		skip uint64   // or not even that
	}{
		{0x100, [16]byte{}, 4},
		{0x104, insn(0x55), 0},
		{0x300, [16]byte{}, 5},
		{xen.PageSize - 2, insn(0x48, 0x83, 0xec, 0x10), 0},
		{2*xen.PageSize - 2, insn(0x55), 0},
	} {
		b, err := e.Insert(g.space(), textVA+tc.off, handler)
		if err != nil {
			t.Fatal(err)
		}
		if b.Addr() != textVA+tc.off {
			t.Errorf("address %v, want %v", b.Addr(), textVA+tc.off)
		}
		if got := g.text()[tc.off]; got != int3 {
			t.Errorf("%v: byte %#x in place, want int3", b.Addr(), got)
		}
		want := xen.Response{Action: xen.EmulateInsn, Insn: tc.want}
		if tc.skip != 0 {
			want = xen.Response{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: uint64(b.Addr()) + tc.skip}}
		}
		if diff := cmp.Diff(want, e.Handle(hit(b.Addr()))); diff != "" {
			t.Errorf("%v: answer (-want +got):\n%s", b.Addr(), diff)
		}
		if rips[len(rips)-1] != uint64(b.Addr()) {
			t.Errorf("handler saw RIP %#x, want %v", rips[len(rips)-1], b.Addr())
		}
	}
	if diff := cmp.Diff(Stats{Hits: 5}, e.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, g.memory) {
		t.Error("memory differs after Close")
	}
	if g.mapped != 0 {
		t.Errorf("%d frames still mapped", g.mapped)
	}
	if _, err := e.Insert(g.space(), textVA+0x100, handler); !errors.Is(err, os.ErrClosed) {
		t.Errorf("insert after Close: %v", err)
	}
}

// A debugger of the guest's that steps its process sees every instruction, those
// that do nothing as well.
func TestGuestSteps(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	for off, want := range map[vmi.VirtAddr][16]byte{
		0x100: insn(0x0f, 0x1f, 0x40, 0x00), 0x300: insn(0x0f, 0x1f, 0x44, 0x00, 0x00),
	} {
		b, err := e.Insert(g.space(), textVA+off, func(*xen.Request) xen.Response { return xen.Response{} })
		if err != nil {
			t.Fatal(err)
		}
		r := hit(b.Addr())
		r.Regs.RFLAGS = 1 << 8
		if got := e.Handle(r); got != (xen.Response{Action: xen.EmulateInsn, Insn: want}) {
			t.Errorf("%v: %+v", b.Addr(), got)
		}
	}
}

// A neighbour's original is read past the int3 that lies in its way.
func TestOriginalPastOtherBreakpoints(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	nop := func(*xen.Request) xen.Response { return xen.Response{} }
	if _, err := e.Insert(g.space(), textVA+xen.PageSize, nop); err == nil {
		t.Error("breakpoint in the middle of sub rsp, 16 (ec): not refused")
	}
	g.text()[xen.PageSize] = 0x50 // push rax, inside the instruction before it
	if _, err := e.Insert(g.space(), textVA+xen.PageSize, nop); err != nil {
		t.Fatal(err)
	}
	b, err := e.Insert(g.space(), textVA+xen.PageSize-2, nop)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Handle(hit(b.Addr())).Insn; bytes.Contains(got[:], []byte{int3}) {
		t.Errorf("emulates % x, an int3 among it", got)
	}
}

func TestRefused(t *testing.T) {
	g := newGuest()
	before := bytes.Clone(g.memory)
	e := New(g, g)
	defer e.Close()
	nop := func(*xen.Request) xen.Response { return xen.Response{} }
	mapFails := errors.New("map fails")
	for _, tc := range []struct {
		name string
		va   vmi.VirtAddr
		fail error
		want error
	}{
		{"a system call", textVA + 0x200, nil, ErrInstruction},
		{"unmapped", textVA + 4*xen.PageSize, nil, vmi.ErrNotPresent},
		{"the frame cannot be mapped", textVA + 0x100, mapFails, mapFails},
	} {
		g.failMap = tc.fail
		if _, err := e.Insert(g.space(), tc.va, nop); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if !bytes.Equal(before, g.memory) {
		t.Error("a refused breakpoint changed memory")
	}
	g.failMap = nil
	if _, err := e.Insert(g.space(), textVA+0x100, nop); err != nil {
		t.Fatal(err)
	}
}

// A guest that cannot be paused is restored all the same, and one that is gone
// is no error.
func TestPauseFails(t *testing.T) {
	broken := errors.New("cannot be paused")
	for _, tc := range []struct{ pause, want error }{{broken, broken}, {xen.ErrNoDomain, nil}} {
		g := newGuest()
		before := bytes.Clone(g.memory)
		e := New(g, g)
		if _, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
			t.Fatal(err)
		}
		g.failure = tc.pause
		if _, err := e.Insert(g.space(), textVA+0x300, func(*xen.Request) xen.Response { return xen.Response{} }); !errors.Is(err, tc.want) {
			t.Errorf("Insert: %v, want %v", err, tc.want)
		}
		if err := e.Close(); !errors.Is(err, tc.want) {
			t.Errorf("Close: %v, want %v", err, tc.want)
		}
		if !bytes.Equal(before, g.memory) || g.mapped != 0 || g.paused != 0 {
			t.Errorf("memory restored: %v; %d frames mapped, %d pauses", bytes.Equal(before, g.memory), g.mapped, g.paused)
		}
	}
}

func TestRemove(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	b, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response {
		t.Error("handler called after Remove")
		return xen.Response{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Remove(), b.Remove()); err != nil {
		t.Fatal(err)
	}
	if got := g.text()[0x100]; got != 0xf3 {
		t.Errorf("byte %#x after Remove, want the original", got)
	}
	// An event that was under way executes the original.
	if diff := cmp.Diff(xen.Response{}, e.Handle(hit(b.Addr()))); diff != "" {
		t.Errorf("answer to a late event (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Stats{Stale: 1}, e.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	if len(g.injected) != 0 {
		t.Error("the guest was given an int3 that was not its own")
	}
}

// The guest's own int3 is raised in the guest, in frames with and without
// breakpoints of ours.
func TestForeignInt3(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	if _, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
		t.Fatal(err)
	}
	g.text()[0x400], g.text()[xen.PageSize+0x400] = int3, int3
	e.Handle(hit(textVA + 0x400))
	e.Handle(hit(textVA + xen.PageSize + 0x400))
	if diff := cmp.Diff([]xen.VCPU{1, 1}, g.injected); diff != "" {
		t.Errorf("injected (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Stats{Foreign: 2}, e.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// What the guest patched over a breakpoint stays.
func TestGuestPatchesOver(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	if _, err := e.Insert(g.space(), textVA+0x300, func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
		t.Fatal(err)
	}
	g.text()[0x300] = 0xe8
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := g.text()[0x300]; got != 0xe8 {
		t.Errorf("byte %#x, want the guest's own e8", got)
	}
	if diff := cmp.Diff(Stats{Overwritten: 1}, e.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestDisarmArm(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	b, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	b.Disarm()
	b.Disarm()
	if got := g.text()[0x100]; got != 0xf3 {
		t.Errorf("byte %#x while disarmed, want the original", got)
	}
	if err := errors.Join(b.Arm(), b.Arm()); err != nil {
		t.Fatal(err)
	}
	if got := g.text()[0x100]; got != int3 {
		t.Errorf("byte %#x while armed, want int3", got)
	}
	if n := testing.AllocsPerRun(100, func() { b.Disarm(); _ = b.Arm() }); n != 0 {
		t.Errorf("%v allocations to disarm and arm", n)
	}
	b.Disarm()
	g.text()[0x100] = 0x55
	if err := b.Arm(); !errors.Is(err, ErrInstruction) {
		t.Errorf("Arm over the guest's change: %v", err)
	}
	if err := b.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := b.Arm(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Arm after Remove: %v", err)
	}
	if got := g.text()[0x100]; got != 0x55 {
		t.Errorf("byte %#x at the end, want the guest's 55", got)
	}
}

func TestInsertDisarmed(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	b, err := e.InsertDisarmed(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	if got := g.text()[0x100]; got != 0xf3 {
		t.Errorf("byte %#x when inserted, want the original", got)
	}
	if err := b.Arm(); err != nil || g.text()[0x100] != int3 {
		t.Errorf("byte %#x while armed, %v", g.text()[0x100], err)
	}
	if err := b.Remove(); err != nil || g.text()[0x100] != 0xf3 {
		t.Errorf("byte %#x at the end, %v", g.text()[0x100], err)
	}
}

// An event of a breakpoint disarmed meanwhile still counts for its handler.
func TestHitWhileDisarmed(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	n := 0
	b, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { n++; return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	b.Disarm()
	if got := e.Handle(hit(b.Addr())).Action; got != xen.SetRegisters || n != 1 {
		t.Errorf("action %v after %d calls of the handler", got, n)
	}
}

func TestHandlerAnswers(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	want := xen.Response{Action: xen.SetRegisters, Regs: &xen.Registers{RIP: 42}}
	b, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return want })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, e.Handle(hit(b.Addr()))); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestHandleAllocatesNothing(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	b, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	r := hit(b.Addr())
	if n := testing.AllocsPerRun(100, func() { e.Handle(r) }); n != 0 {
		t.Errorf("%v allocations per hit", n)
	}
}

func BenchmarkHandle(b *testing.B) {
	g := newGuest()
	e := New(g, g)
	defer e.Close()
	for off := vmi.VirtAddr(0x400); off < 0x440; off++ {
		if _, err := e.Insert(g.space(), textVA+off, func(*xen.Request) xen.Response { return xen.Response{} }); err != nil {
			b.Fatal(err)
		}
	}
	r := hit(textVA + 0x410)
	b.ReportAllocs()
	for b.Loop() {
		e.Handle(r)
	}
}
