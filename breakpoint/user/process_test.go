package user

import (
	"errors"
	"strings"
	"testing"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Patched bytes would be in the pages of all processes.
func TestNeedsViews(t *testing.T) {
	p, err := Open(breakpoint.New(nil, nil), nil, Fault{}, 1, nil)
	if p != nil || !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "patched byte") {
		t.Errorf("%v, %v", p, err)
	}
}

// The breakpoints are in the page cache's frame, in the process's own once it has
// written to it, where it maps the file next, and in the program that it executes; in
// nobody's when it has ended. What it has given up is not written to.
func TestFollows(t *testing.T) {
	w, shared := newCached(t)
	p, other := w.process("subject"), w.process("other")
	u, bs := w.open(p)
	if armed, err := bs[0].Armed(); !armed || err != nil {
		t.Errorf("armed: %v, %v", armed, err)
	}
	w.pageFault(other, libVA, shared)
	w.pageFault(p, libVA, shared)
	w.patched(map[xen.GFN]bool{shared: true})
	w.calls(other, libVA, shared, 0)
	w.calls(p, libVA, shared, 1)

	own := w.write(p, libVA, shared)
	w.patched(map[xen.GFN]bool{shared: false, own: true})
	w.calls(other, libVA, shared, 0)
	w.calls(p, libVA, own, 1)

	const elsewhere = libVA + 0x1000000
	w.Unmap(p.Space, libVA)
	w.mmap(p, elsewhere)
	w.contents(own)[first] = int3 // whose ever it is
	w.pageFault(p, elsewhere, shared)
	w.patched(map[xen.GFN]bool{shared: true, own: true})
	w.calls(p, elsewhere, shared, 1)
	w.calls(other, libVA, shared, 0)

	again := w.write(p, elsewhere, shared)
	old := p.Space
	w.SetSpace(p.Thread, w.NewSpace(0))
	w.mmap(p, libVA)
	w.pageFault(p, libVA, shared)
	w.patched(map[xen.GFN]bool{shared: true, again: true})
	w.calls(p, libVA, shared, 1)
	old.Users--

	if s := u.Stats(); s.Failed != 0 || s.Moves != 2*4 {
		t.Errorf("%+v", s)
	}
	w.SetLive(p.Signal, 0)
	w.SetSpace(p.Thread, nil)
	w.pageFault(other, libVA, shared)
	w.patched(map[xen.GFN]bool{shared: false})
	if armed, err := bs[0].Armed(); armed || err != nil {
		t.Errorf("when the process has ended, armed: %v, %v", armed, err)
	}
	w.close(u, shared)
}

// What the guest has copied of a page with breakpoints is put right: when somebody runs
// into it, or at Close.
func TestCopies(t *testing.T) {
	w, shared := newCached(t)
	p, debugged, idle := w.process("subject"), w.process("debugged"), w.process("idle")
	u, _ := w.open(p)
	w.pageFault(p, libVA, shared)
	copied, idles := w.write(debugged, libVA, shared), w.write(idle, libVA, shared)
	w.patched(map[xen.GFN]bool{shared: true, copied: true, idles: true})
	w.calls(debugged, libVA, copied, 0)
	w.patched(map[xen.GFN]bool{shared: true, copied: false, idles: true})
	w.calls(debugged, libVA, copied, 0)
	w.calls(p, libVA, shared, 1)

	// The kernel moves the page.
	moved := w.page(w.contents(shared))
	w.cache(moved)
	clear(w.contents(shared))
	third := w.process("third")
	w.Map(third.Space, libVA, moved)
	w.calls(third, libVA, moved, 0)
	w.pageFault(p, libVA, moved)
	w.calls(p, libVA, moved, 1)
	if b := w.contents(shared); b[first] != 0 || b[second] != 0 {
		t.Errorf("a frame that is somebody else's has %#x and %#x", b[first], b[second])
	}
	// And once more, without anybody's running into it.
	last := w.page(w.contents(moved))
	w.cache(last)
	w.Unmap(p.Space, libVA)
	if s := w.engine.Stats(); s.Repaired != 4 {
		t.Errorf("%+v", s)
	}
	w.close(u, copied, idles, last)
}

// A child has its parent's own page until one of them writes to it.
func TestFork(t *testing.T) {
	w, shared := newCached(t)
	p := w.process("subject")
	u, _ := w.open(p)
	w.pageFault(p, libVA, shared)
	own := w.write(p, libVA, shared)
	child := w.process("child")
	w.Map(child.Space, libVA, own)
	w.calls(child, libVA, own, 0)
	w.calls(p, libVA, own, 1)
	next := w.write(p, libVA, own) // and the child keeps what was the parent's
	w.patched(map[xen.GFN]bool{own: true, next: true})
	w.calls(p, libVA, next, 1)
	w.calls(child, libVA, own, 0)
	w.patched(map[xen.GFN]bool{own: false, next: true})
	w.close(u, shared, own, next)
}

// An int3 that is the guest's own stays: nothing has been copied there.
func TestOwnInt3(t *testing.T) {
	w, shared := newCached(t)
	p, other := w.process("subject"), w.process("other")
	u, _ := w.open(p)
	w.pageFault(p, libVA, shared)
	own := w.write(other, libVA, shared)
	const elsewhere = first + 1
	w.contents(own)[elsewhere] = int3
	if at := place(own, elsewhere); !w.execute(other, libVA+elsewhere, at, 0) || w.contents(own)[elsewhere] != int3 {
		t.Error("the guest does not get its int3")
	}
	w.injected = 0
	w.close(u, shared, own)

	w.contents(shared)[first] = int3
	u, err := Open(w.engine, w.Kernel, w.fault, p.TGID, &Options{PatchShared: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Insert(w.mapped(p), first, nil); !errors.Is(err, breakpoint.ErrInstruction) {
		t.Errorf("breakpoint on an int3: %v", err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}

// A page that the guest has not in memory gets its breakpoint when it has, and a place
// that cannot have one says why.
func TestNotCached(t *testing.T) {
	w := newWorld(t)
	p := w.process("subject")
	u, bs := w.open(p)
	armed := func(want bool, b *Breakpoint, reason error) {
		t.Helper()
		if got, err := b.Armed(); got != want || !errors.Is(err, reason) {
			t.Errorf("armed: %v, %v; want %v, %v", got, err, want, reason)
		}
	}
	armed(false, bs[0], nil)
	shared := w.page(code())
	w.cache(shared)
	w.pageFault(p, libVA, shared)
	armed(true, bs[0], nil)
	w.calls(p, libVA, shared, 1)

	// The process's own page, of which it has overwritten the instruction.
	own := w.page(code())
	copy(w.contents(own)[first:], []byte{0x0f, 0x0b}) // ud2
	w.pageFault(p, libVA, own)
	armed(false, bs[0], breakpoint.ErrInstruction)
	armed(true, bs[1], nil)
	failed := u.Stats().Failed
	w.pageFault(p, libVA, own)
	if now := u.Stats().Failed; failed == 0 || now != failed+1 {
		t.Errorf("%d failures, then %d", failed, now)
	}
	if b := w.contents(own)[first]; b != 0x0f {
		t.Errorf("the process's instruction begins with %#x", b)
	}

	// The rest of the instruction is in the next page, which the process has not.
	if b, err := u.Insert(w.mapped(p), atEnd, nil); !errors.Is(err, breakpoint.ErrInstruction) {
		t.Errorf("breakpoint at the end of the page: %v, %v", b, err)
	}
	w.Unmap(p.Space, libVA)
	b, err := u.Insert(w.mapped(p), atEnd, nil)
	if err != nil {
		t.Fatal(err)
	}
	armed(false, b, nil)
	if _, err := u.Insert(w.mapped(p), size, nil); err == nil || !strings.Contains(err.Error(), "beyond its end") {
		t.Errorf("breakpoint beyond the end: %v", err)
	}

	for i := range xen.GFN(maxFrames) {
		u.frames[1<<40+i] = struct{}{}
	}
	w.pageFault(p, libVA, w.page(code()))
	armed(false, bs[1], errFrames)
	w.close(u, shared)
}

// Page faults that change nothing allocate nothing.
func TestFaultsAllocateNothing(t *testing.T) {
	w, shared := newCached(t)
	p := w.process("subject")
	u, _ := w.open(p)
	w.pageFault(p, libVA, shared)
	gs := xen.Segment{Base: uint64(w.SetCurrent(p.Addr))}
	var r xen.Request
	event := func(va uint64) {
		r = xen.Request{Breakpoint: xen.SoftwareBreakpoint{GFN: w.Phys(w.fault.Addr).GFN()}}
		r.Regs.RIP, r.Regs.RDI, r.Regs.CR3, r.Regs.GS = va, uint64(p.area), uint64(p.Space.Root), gs
		w.engine.Handle(&r)
	}
	before := u.Stats().Faults
	if n := testing.AllocsPerRun(100, func() {
		event(uint64(w.fault.Addr))
		event(uint64(w.fault.Exits[0].Addr))
	}); n != 0 || u.Stats().Faults < before+100 {
		t.Errorf("%v allocations, %+v", n, u.Stats())
	}
	w.close(u, shared)
}

// Two processes are watched at the same places.
func TestTwo(t *testing.T) {
	w, shared := newCached(t)
	p, q := w.process("one"), w.process("two")
	one, _ := w.open(p)
	two, _ := w.open(q)
	w.pageFault(p, libVA, shared)
	w.pageFault(q, libVA, shared)
	w.calls(p, libVA, shared, 1)
	w.calls(q, libVA, shared, 1)
	own := w.write(p, libVA, shared)
	w.patched(map[xen.GFN]bool{shared: true, own: true})
	w.calls(p, libVA, own, 1)
	w.calls(q, libVA, shared, 1)
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	w.patched(map[xen.GFN]bool{shared: false, own: true})
	w.calls(q, libVA, shared, 0)
	w.calls(p, libVA, own, 1)
	w.close(one, shared, own)
}

// A process that is not there is an error, and leaves nothing.
func TestNoProcess(t *testing.T) {
	w := newWorld(t)
	if _, err := Open(w.engine, w.Kernel, w.fault, 9999, &Options{PatchShared: true}); !errors.Is(err, linux.ErrNoTask) {
		t.Error(err)
	}
	p := w.process("subject")
	if _, err := Open(w.engine, w.Kernel, Fault{Addr: 0x1000}, p.TGID, &Options{PatchShared: true}); err == nil {
		t.Error("page faults begin where there is nothing")
	}
	if s := w.engine.Stats(); s.Hits != 0 {
		t.Errorf("%+v", s)
	}
}
