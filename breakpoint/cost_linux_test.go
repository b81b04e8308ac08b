package breakpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// live is an engine on a fake hypervisor, whose monitor is served.
type live struct {
	x      *xenfake.Xen
	g      *xenfake.Domain
	engine *Engine
	b      *Breakpoint
	close  func() error
}

// openLive places a breakpoint in a guest of the fake. It is closed by the caller.
func openLive(t testing.TB, cfg *xenfake.Config, o *Options) (*live, error) {
	t.Helper()
	x := xenfake.New(t, cfg)
	g := x.AddDomain(&xenfake.DomainConfig{ID: 1, AltP2M: true})
	const table, text = 1, 5
	for i, index := range []int{int(textVA >> 39 & 511), int(textVA >> 30 & 511), int(textVA >> 21 & 511), 0} {
		page := make([]byte, xen.PageSize)
		binary.LittleEndian.PutUint64(page[8*index:], uint64(table+i+1)<<xen.PageShift|3)
		g.SetPage(uint64(table+i), page)
	}
	g.SetPage(text, []byte{0x55, 0x53, 0x0f, 0x1f, 0x44, 0, 0})
	h, err := xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	frames := vmi.MapperFunc(d.MapFrames)
	loop := vmi.NewLoop(m)
	e, err := Open(Guest{Domain: d, Monitor: m, Frames: frames, Loop: loop}, o)
	if err != nil {
		return nil, errors.Join(err, m.Close(), h.Close())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	mem := vmi.NewMemory(frames, nil)
	b, err := e.Insert(mem.AddressSpace(table<<xen.PageShift), textVA, quiet)
	if err != nil {
		t.Fatal(err)
	}
	l := &live{x: x, g: g, engine: e, b: b}
	l.close = func() error {
		stop()
		err := <-done
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, e.Close(), m.Close(), mem.Close(), h.Close())
	}
	return l, nil
}

// event has the guest's vCPU cause an event, and waits until it is answered.
func (l *live) event(ev *xenfake.Event) error {
	ev.View = l.g.View(0)
	if err := l.g.Inject(ev); err != nil {
		return err
	}
	for l.g.Waiting(0) > 0 {
		time.Sleep(10 * time.Microsecond)
	}
	return nil
}

// A hit costs one trip through the ring, with two trips two: a notification each, no
// other hypercall, and no memory.
func TestHitCost(t *testing.T) {
	intel := &xenfake.Config{Capabilities: 0x1f7f, AltP2M: true}
	for how := Automatic; how <= PatchedByte; how++ {
		l, err := openLive(t, intel, &Options{Strategy: how})
		if err != nil {
			t.Fatal(err)
		}
		want := how
		if how == Automatic {
			want = ViewByInstruction
		}
		if l.engine.Strategy() != want {
			t.Errorf("%v was forced, it is %v", how, l.engine.Strategy())
		}
		hit := &xenfake.Event{Reason: abi.ReasonSoftwareBreakpoint, Flags: abi.FlagAlternateP2M,
			Breakpoint: abi.EventDebug{GFN: 5, InsnLength: 1}}
		hit.Regs.RIP = uint64(textVA)
		step := &xenfake.Event{Reason: abi.ReasonSingleStep}
		trips := 1
		if how == ViewTwoTrips {
			trips = 2
		}
		view := l.g.View(0)
		one := func() {
			if err := l.event(hit); err != nil {
				t.Fatal(err)
			}
			if how == ViewTwoTrips {
				if !l.g.Stepping(0) || l.g.View(0) == view {
					t.Fatalf("stepping %v in view %d", l.g.Stepping(0), l.g.View(0))
				}
				if err := l.event(step); err != nil {
					t.Fatal(err)
				}
			}
			l.g.Forget()
		}
		one() // after all vCPUs were switched, where the vCPU is has to be asked
		l.x.Record(true)
		one()
		one()
		if got, want := l.x.Recorded(), slices.Repeat([]string{"evtchn notify"}, 2*trips); !slices.Equal(got, want) {
			t.Errorf("%v: 2 hits cost %q", how, got)
		}
		l.x.Record(false)
		if n := testing.AllocsPerRun(50, one); n != 0 {
			t.Errorf("%v: %v allocations per hit", how, n)
		}
		hits, _ := l.b.Hits()
		if st := l.engine.Stats(); hits != 54 || st.Hits != hits || st.Foreign+st.Stale > 0 {
			t.Errorf("%v: %d hits, %+v", how, hits, st)
		}
		if l.g.View(0) != view || l.g.Stepping(0) {
			t.Errorf("%v: in view %d, stepping %v", how, l.g.View(0), l.g.Stepping(0))
		}
		if err := l.close(); err != nil {
			t.Errorf("%v: %v", how, err)
		}
		if l.g.AltP2M() || l.g.Pauses() != 0 || l.g.Page(5)[0] != 0x55 {
			t.Errorf("%v: left altp2m %v, %d pauses, byte %#x", how, l.g.AltP2M(), l.g.Pauses(), l.g.Page(5)[0])
		}
		if n, _ := l.g.Restricted(); n != 0 {
			t.Errorf("%v: %d frames stay restricted", how, n)
		}
	}
}

// Where there are no views, the byte is patched, unless a view was asked for.
func TestOpenChooses(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  xenfake.Config
		how  Strategy
		want Strategy
		err  error
	}{
		{"Intel", xenfake.Config{Capabilities: 0x1f7f, AltP2M: true}, Automatic, ViewByInstruction, nil},
		{"AMD", xenfake.Config{}, Automatic, PatchedByte, nil},
		{"Intel without altp2m", xenfake.Config{Capabilities: 0x1f7f}, Automatic, PatchedByte, nil},
		{"AMD, a view asked for", xenfake.Config{}, ViewFastStep, 0, xen.ErrNotSupported},
		{"Intel, bytes asked for", xenfake.Config{Capabilities: 0x1f7f, AltP2M: true}, PatchedByte, PatchedByte, nil},
		{"no such strategy", xenfake.Config{}, 9, 0, errors.ErrUnsupported},
	} {
		l, err := openLive(t, &tc.cfg, &Options{Strategy: tc.how})
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil {
			continue
		}
		if got := l.engine.Strategy(); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if err := l.close(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
