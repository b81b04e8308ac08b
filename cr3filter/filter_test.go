package cr3filter

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// monitor is a hypervisor with or without the filter.
type monitor struct {
	patched bool
	targets bool // the CR3-target list is available
	room    int

	calls  []string
	opts   xen.CtrlRegOptions
	set    xen.CR3FilterOptions
	values map[uint64]bool
	err    error
}

func (m *monitor) call(format string, args ...any) error {
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
	return m.err
}

func (m *monitor) EnableCtrlReg(reg xen.CtrlReg, o *xen.CtrlRegOptions) error {
	m.opts = *o
	return m.call("enable %v", reg)
}

func (m *monitor) DisableCtrlReg(reg xen.CtrlReg) error { return m.call("disable %v", reg) }

func (m *monitor) CR3Filter() (xen.CR3FilterInfo, error) {
	if !m.patched {
		return xen.CR3FilterInfo{}, fmt.Errorf("query: %w", xen.ErrNotSupported)
	}
	return xen.CR3FilterInfo{Version: 1, TargetListAvailable: m.targets, Forwarded: 7, Dropped: 9}, nil
}

func (m *monitor) SetCR3Filter(o xen.CR3FilterOptions) error {
	m.set = o
	m.values = map[uint64]bool{}
	return m.call("filter %d", o.Mode)
}

func (m *monitor) AddCR3(v uint64) error {
	if len(m.values) == m.room {
		return xen.ErrNoSpace
	}
	m.values[v] = true
	return m.call("add %#x", v)
}

func (m *monitor) RemoveCR3(v uint64) error {
	delete(m.values, v)
	return m.call("remove %#x", v)
}

func write(vcpu xen.VCPU, old, new uint64) *xen.Request {
	return &xen.Request{
		Reason: xen.ReasonWriteCtrlReg, VCPU: vcpu,
		Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, Old: old, New: new},
	}
}

func open(t testing.TB, mon Monitor, c Config, notify func(Switch) xen.Response) *Filter {
	t.Helper()
	f, err := Open(mon, c, notify)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func watch(t testing.TB, f *Filter, roots ...vmi.CR3) {
	t.Helper()
	for _, c := range roots {
		if err := f.Watch(c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSwitches(t *testing.T) {
	writes := []*xen.Request{
		write(0, 0x1000000, 0x2000000), // neither watched
		write(0, 0x1000000, 0x5cda001), // enters, with a PCID
		write(1, 0x5cda001, 0x5cdb801), // a KPTI flip inside
		write(0, 0x5cdb801, 0x7000000), // to another that is watched
		write(0, 0x7000000, 0x2000000), // leaves
	}
	for _, tt := range []struct {
		members bool
		want    []Switch
	}{
		{false, []Switch{{0, 0x1000000, 0x5cda000}, {0, 0x5cda000, 0x7000000}, {0, 0x7000000, 0x2000000}}},
		{true, []Switch{{0, 0x1000000, 0x5cda000}, {0, 0x7000000, 0x2000000}}},
	} {
		var got []Switch
		c := Linux(true)
		c.Members = tt.members
		f := open(t, &monitor{}, c, func(s Switch) xen.Response {
			got = append(got, s)
			return xen.Response{Switch: true, View: 3}
		})
		watch(t, f, 0x5cda000, 0x7000801)
		answers := 0
		for _, w := range writes {
			if f.Handle(w).Switch {
				answers++
			}
		}
		if err := f.Unwatch(0x5cdb801); err != nil {
			t.Fatal(err)
		}
		f.Handle(write(0, 0x2000000, 0x5cda000)) // no longer watched
		if diff := cmp.Diff(tt.want, got); diff != "" || answers != len(got) {
			t.Errorf("members %v: %d answers, switches (-want +got):\n%s", tt.members, answers, diff)
		}
		want := Stats{Events: 6, Switches: uint64(len(tt.want))}
		if stats, err := f.Stats(); err != nil || stats != want {
			t.Errorf("members %v: stats %+v, %v, want %+v", tt.members, stats, err, want)
		}
	}
}

// Without KPTI, neighbouring frames are roots of different processes.
func TestNeighbourRoots(t *testing.T) {
	n := 0
	f := open(t, &monitor{}, Linux(false), func(Switch) xen.Response { n++; return xen.Response{} })
	watch(t, f, 0x5cda000)
	f.Handle(write(0, 0x5cda000, 0x5cdb000))
	f.Handle(write(0, 0x5cdb000, 0x7000000))
	if n != 1 {
		t.Errorf("%d switches, want 1", n)
	}
}

func TestMechanisms(t *testing.T) {
	for _, tt := range []struct {
		name    string
		mon     monitor
		config  Config
		want    Mechanism
		targets bool
		err     error
		calls   []string // of opening, watching a root, leaving it, closing
	}{
		{"patched", monitor{patched: true, targets: true, room: 1}, Linux(true), FilteredByXen, true, nil,
			[]string{"filter 1", "enable CR3", "add 0x4000", "remove 0x4000", "disable CR3"}},
		{"patched, AMD", monitor{patched: true, room: 1}, Linux(false), FilteredByXen, false, nil,
			[]string{"filter 1", "enable CR3", "add 0x5000", "remove 0x5000", "disable CR3"}},
		{"not patched", monitor{}, Linux(true), FilteredHere, false, nil, []string{"enable CR3", "disable CR3"}},
		{"forced here", monitor{patched: true, targets: true}, Config{Mechanisms: []Mechanism{FilteredHere}}, FilteredHere, false, nil,
			[]string{"enable CR3", "disable CR3"}},
		{"forced to Xen", monitor{}, Config{Mechanisms: []Mechanism{FilteredByXen}}, 0, false, xen.ErrNotSupported, nil},
		{"none of a filter", monitor{}, Config{Mechanisms: []Mechanism{EveryHit}}, 0, false, errors.ErrUnsupported, nil},
		{"unknown", monitor{}, Config{Mechanisms: []Mechanism{99}}, 0, false, errors.ErrUnsupported, nil},
		{"fails", monitor{err: xen.ErrPermission}, Linux(true), 0, false, xen.ErrPermission, []string{"enable CR3"}},
		{"fails, patched", monitor{patched: true, err: xen.ErrPermission}, Linux(true), 0, false, xen.ErrPermission, []string{"filter 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mon := tt.mon
			f, err := Open(&mon, tt.config, func(Switch) xen.Response { return xen.Response{} })
			if !errors.Is(err, tt.err) {
				t.Fatalf("Open: %v, want %v", err, tt.err)
			}
			if err == nil {
				if f.Mechanism() != tt.want || f.TargetList() != tt.targets {
					t.Errorf("%v, target list %v; want %v, %v", f.Mechanism(), f.TargetList(), tt.want, tt.targets)
				}
				if mon.opts.IgnoreBits != tt.config.Ignore || mon.set.TargetList != tt.targets || tt.targets && mon.set.Halves != tt.config.Halves {
					t.Errorf("events %+v, filter %+v", mon.opts, mon.set)
				}
				watch(t, f, 0x5000)
				if err := errors.Join(f.Unwatch(0x5000), f.Close(), f.Close()); err != nil {
					t.Error(err)
				}
				stats, err := f.Stats()
				if want := map[bool]uint64{true: 9}[tt.want == FilteredByXen]; err != nil || stats.Dropped != want {
					t.Errorf("after Close: %+v, %v", stats, err)
				}
			}
			if diff := cmp.Diff(tt.calls, mon.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRootsRefused(t *testing.T) {
	for _, patched := range []bool{false, true} {
		f := open(t, &monitor{patched: patched, room: 2}, Linux(true), func(Switch) xen.Response { return xen.Response{} })
		watch(t, f, 0x5cda000)
		if err := f.Watch(0x5cdb801); !errors.Is(err, xen.ErrExists) {
			t.Errorf("the other half of a watched root: %v", err)
		}
		if err := f.Unwatch(0x7000000); !errors.Is(err, xen.ErrNotFound) {
			t.Errorf("a root that is not watched: %v", err)
		}
		for _, c := range []vmi.CR3{1 << 52, 0x7fff_8000_0000_0000} {
			if err := f.Watch(c); !errors.Is(err, ErrRoot) {
				t.Errorf("Watch(%#x): %v", uint64(c), err)
			}
		}
		watch(t, f, 1<<63|0x7000000) // the no-flush flag
		if !patched {
			continue
		}
		if err := f.Watch(0x9000000); !errors.Is(err, xen.ErrNoSpace) || f.Watched(0x9000000) {
			t.Errorf("one more than fits: %v", err)
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	f := open(b, &monitor{}, Linux(true), func(Switch) xen.Response { return xen.Response{} })
	for i := range 256 {
		watch(b, f, vmi.CR3(0x10000000+i<<13))
	}
	r := write(0, 0x1000000, 0x10000000+77<<13)
	b.ReportAllocs()
	for b.Loop() {
		f.Handle(r)
	}
}
