package journal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

const (
	root   = vmi.CR3(0x1000) // four levels of page tables from there on
	textVA = vmi.VirtAddr(0xffffffff81000000)
	text   = 5 // two frames of it
	vcpus  = 2
	// watched is a frame that the guest is not to write to.
	watched = 9
	int3    = 0xcc
)

// victim is a fake guest with two frames of kernel text.
type victim struct {
	x    *xenfake.Xen
	g    *xenfake.Domain
	path string // of the journal
}

// newVictim returns a guest that may have no more pages than it has, with altp2m
// or without.
func newVictim(t testing.TB, views bool) *victim {
	t.Helper()
	cfg := &xenfake.Config{}
	if views {
		cfg = &xenfake.Config{Capabilities: 0x1f7f, AltP2M: true}
	}
	v := &victim{x: xenfake.New(t, cfg), path: filepath.Join(t.TempDir(), "journal")}
	v.g = v.x.AddDomain(&xenfake.DomainConfig{ID: 1, Name: "guest", VCPUs: vcpus, AltP2M: views})
	entry := func(table, index, frame int) {
		binary.LittleEndian.PutUint64(v.g.Page(uint64(table))[8*index:], uint64(frame)<<xen.PageShift|3)
	}
	va := uint64(textVA)
	entry(1, int(va>>39&511), 2)
	entry(2, int(va>>30&511), 3)
	entry(3, int(va>>21&511), 4)
	for i := range 2 {
		entry(4, int(va>>12&511)+i, text+i)
		page := v.g.Page(uint64(text + i))
		for at := range page {
			page[at] = 0x90
		}
		copy(page[0x100:], []byte{0x55, 0x48, 0x83, 0xec, 0x10})       // push rbp; sub rsp, 16
		copy(page[0x200:], []byte{0x0f, 0x1f, 0x44, 0x00, 0x00, 0x55}) // nop; push rbp
	}
	h, err := xen.Open(&xen.Options{Devices: v.x})
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	info, err := d.Info()
	if err := errors.Join(err, d.SetMaxPages(info.Pages), h.Close()); err != nil {
		t.Fatal(err)
	}
	return v
}

// open opens the domain for the rest of the test.
func (v *victim) open(t testing.TB) *xen.Domain {
	t.Helper()
	h, err := xen.Open(&xen.Options{Devices: v.x})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// look is all that a monitor may change in a guest.
type look struct {
	Pages     map[uint64]string
	MaxPages  int
	Closed    int // frames that the guest may do less with
	Pauses    int
	Monitored bool
	Events    [2]bool // breakpoints and single steps
	AltP2M    bool
	Waiting   [vcpus]int
	Stepping  [vcpus]bool
	View      [vcpus]uint16
}

func (v *victim) look() look {
	l := look{
		Pages: map[uint64]string{}, MaxPages: v.g.MaxPages(), Pauses: v.g.Pauses(), Monitored: v.g.Monitored(),
		Events: [2]bool{v.g.Breakpoints(), v.g.SingleSteps()}, AltP2M: v.g.AltP2M(),
	}
	l.Closed, _ = v.g.Restricted()
	for _, gfn := range v.g.GFNs() {
		l.Pages[gfn] = string(v.g.Page(gfn))
	}
	for c := range vcpus {
		l.Waiting[c], l.Stepping[c], l.View[c] = v.g.Waiting(c), v.g.Stepping(c), v.g.View(c)
	}
	return l
}

func (v *victim) same(t testing.TB, before look) {
	t.Helper()
	if d := cmp.Diff(before, v.look()); d != "" {
		t.Errorf("the guest (-before +now):\n%s", d)
	}
}

// live is a monitor's whole life: it attaches, with views closes a frame as well,
// arms three breakpoints, sees two vCPUs run into one of them, and goes, with another
// hit on its way.
func (v *victim) live(devices device.Opener, views bool) error {
	h, err := xen.Open(&xen.Options{Devices: devices})
	if err != nil {
		return err
	}
	d, err := h.Domain(1)
	if err != nil {
		return err
	}
	mon, err := d.OpenMonitor(nil)
	if err != nil {
		return err
	}
	j, err := journal.Open(d, &journal.Options{Path: v.path})
	if err != nil {
		return errors.Join(err, mon.Close(), h.Close())
	}
	frames := vmi.MapperFunc(d.MapFrames)
	mem := vmi.NewMemory(frames, nil)
	loop := vmi.NewLoop(mon)
	engine := breakpoint.New(frames, j.Domain())
	stop := func() error { return nil }
	if views {
		s, err := breakpoint.OpenViews(j.Domain(), frames, nil)
		if err != nil {
			return err
		}
		if engine, err = s.NewEngine(j.Domain()); err != nil {
			return err
		}
		stop = s.Close
		err = errors.Join(j.Domain().Restricting(watched, 1), mon.SetAccess(watched, 1, xen.AccessRX))
		if err != nil {
			return err
		}
		err = errors.Join(mon.EnableSingleStep(), loop.OnMemAccess(s.HandleMemAccess), loop.OnSingleStep(s.HandleSingleStep))
		if err != nil {
			return err
		}
	}
	if err := errors.Join(loop.OnSoftwareBreakpoint(engine.Handle), mon.EnableSoftwareBreakpoint()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hits := 0
	var points []*breakpoint.Breakpoint
	for _, off := range []vmi.VirtAddr{0x100, 0x200, 0x1100} {
		b, err := engine.Insert(mem.AddressSpace(root), textVA+off, func(*xen.Request) xen.Response {
			if hits++; hits == vcpus {
				cancel()
			}
			return xen.Response{}
		})
		if err != nil {
			return err
		}
		points = append(points, b)
	}
	if views {
		if err := d.SwitchView(engine.View()); err != nil {
			return err
		}
	}
	for c := range uint32(vcpus) {
		if err := v.hit(c, engine.View()); err != nil {
			return err
		}
	}
	if err := loop.Run(ctx); err != context.Canceled {
		return err
	}
	if err := v.hit(1, engine.View()); err != nil {
		return err
	}
	if err := points[1].Remove(); err != nil {
		return err
	}
	if views {
		if err := d.SwitchView(0); err != nil {
			return err
		}
	}
	err = errors.Join(engine.Close(), stop(), mon.Close(), j.Close(), mem.Close(), h.Close())
	if err == nil && hits != vcpus {
		err = fmt.Errorf("%d hits", hits)
	}
	return err
}

// hit has a vCPU run into the first breakpoint and wait for the answer.
func (v *victim) hit(vcpu uint32, view xen.View) error {
	ev := &xenfake.Event{
		Reason: abi.ReasonSoftwareBreakpoint, VCPU: vcpu, View: uint16(view),
		Breakpoint: abi.EventDebug{GFN: text, InsnLength: 1, Type: 6},
	}
	ev.Regs.RIP = uint64(textVA + 0x100)
	return v.g.Inject(ev)
}
