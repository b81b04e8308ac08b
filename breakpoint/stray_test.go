package breakpoint

import (
	"errors"
	"os"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// An int3 that the guest has copied from a breakpoint is put right by who knows of it;
// who does not is asked, and the guest gets its own.
func TestStray(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	b, err := e.Insert(g.space(), textVA+0x100, func(*xen.Request) xen.Response { return xen.Response{} })
	if err != nil {
		t.Fatal(err)
	}
	const copied, own = 0x500, 0x600
	text := g.text()
	text[copied], text[own] = text[0x100], int3
	asked := 0
	other := e.OnStray(func(*xen.Request) bool { asked++; return false })
	s := e.OnStray(func(r *xen.Request) bool {
		at := vmi.PhysAddr(r.Breakpoint.GFN)<<xen.PageShift + vmi.PhysAddr(r.Regs.RIP%xen.PageSize)
		if r.Regs.RIP != uint64(textVA+copied) {
			return false
		}
		return e.Repair(at, b.Original()) == nil
	})
	if resp := e.Handle(hit(textVA + copied)); resp != (xen.Response{}) || text[copied] != 0xf3 || len(g.injected) != 0 {
		t.Errorf("the copy: %+v, %#x, injected %v", resp, text[copied], g.injected)
	}
	e.Handle(hit(textVA + own))
	if text[own] != int3 || len(g.injected) != 1 || asked != 2 {
		t.Errorf("the guest's own: %#x, injected %v, asked %d times", text[own], g.injected, asked)
	}
	at := vmi.PhysAddr(textGFN) << xen.PageShift
	for _, err := range []error{
		e.Repair(at+0x100, 0x55), // a breakpoint
		e.Repair(at+0x200, 0x55), // something else
		e.Repair(at+own, int3),   // the same
		other.Close(), other.Close(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if text[0x100] != int3 || text[0x200] != 0x0f {
		t.Errorf("%#x and %#x", text[0x100], text[0x200])
	}
	g.failMap = errors.New("no memory")
	if err := e.Repair(at+xen.PageSize, 0x55); !errors.Is(err, g.failMap) {
		t.Error(err)
	}
	g.failMap = nil
	// Another vCPU was on its way from the copy.
	if resp := e.Handle(hit(textVA + copied)); resp != (xen.Response{}) || e.Stats().Stale != 1 {
		t.Errorf("from a copy that has gone: %+v, %+v", resp, e.Stats())
	}
	e.Handle(hit(textVA + own))
	if asked != 2 || len(g.injected) != 2 {
		t.Errorf("asked %d times, injected %v", asked, g.injected)
	}
	if stats := e.Stats(); stats.Repaired != 1 || stats.Foreign != 2 {
		t.Errorf("%+v", stats)
	}
	if err := errors.Join(s.Close(), e.Close()); err != nil || g.paused != 0 || g.mapped != 0 {
		t.Errorf("%v, paused %d, mapped %d", err, g.paused, g.mapped)
	}
	if err := e.Repair(at+own, 0x55); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// A frame that is somebody else's is not written to, and a hit is none any more.
func TestForget(t *testing.T) {
	g := newGuest()
	e := New(g, g)
	hits := 0
	count := func(*xen.Request) xen.Response { hits++; return xen.Response{} }
	var bs [2]*Breakpoint
	for i := range bs {
		var err error
		if bs[i], err = e.Insert(g.space(), textVA+0x100, count); err != nil {
			t.Fatal(err)
		}
	}
	bs[0].Forget()
	e.Handle(hit(textVA + 0x100)) // the other one's
	pauses := g.pauses
	bs[1].Forget()
	bs[1].Forget()
	if err := bs[1].Remove(); err != nil {
		t.Error(err)
	}
	e.Handle(hit(textVA + 0x100))
	if hits != 1 || g.text()[0x100] != int3 || len(g.injected) != 1 || g.pauses != pauses {
		t.Errorf("%d hits, %#x, injected %v", hits, g.text()[0x100], g.injected)
	}
	if err := e.Close(); err != nil || g.text()[0x100] != int3 {
		t.Errorf("%v, %#x", err, g.text()[0x100])
	}
}
