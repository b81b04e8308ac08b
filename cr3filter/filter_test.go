package cr3filter

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

type monitor struct {
	calls []string
	opts  xen.CtrlRegOptions
	err   error
}

func (m *monitor) EnableCtrlReg(reg xen.CtrlReg, o *xen.CtrlRegOptions) error {
	m.calls, m.opts = append(m.calls, "enable"), *o
	return m.err
}

func (m *monitor) DisableCtrlReg(reg xen.CtrlReg) error {
	m.calls = append(m.calls, "disable")
	return m.err
}

func write(vcpu xen.VCPU, old, new uint64) *xen.Request {
	return &xen.Request{
		Reason: xen.ReasonWriteCtrlReg, VCPU: vcpu,
		Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, Old: old, New: new},
	}
}

func TestSwitches(t *testing.T) {
	var got []Switch
	f := New(&monitor{}, IgnoreKPTI, func(s Switch) { got = append(got, s) })
	f.Watch(0x5cda000)
	f.Handle(write(0, 0x1000000, 0x2000000)) // neither watched
	f.Handle(write(0, 0x1000000, 0x5cda001)) // enters, with a PCID
	f.Handle(write(1, 0x5cda001, 0x5cdb801)) // a KPTI flip inside
	f.Handle(write(0, 0x5cdb801, 0x2000000)) // leaves from the user half
	f.Unwatch(0x5cda801)
	f.Handle(write(0, 0x2000000, 0x5cda000)) // no longer watched
	want := []Switch{
		{VCPU: 0, From: 0x1000000, To: 0x5cda000},
		{VCPU: 0, From: 0x5cda000, To: 0x2000000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("switches (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Stats{Seen: 5, Forwarded: 2}, f.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// Without KPTI, neighbouring frames are roots of different processes.
func TestNeighbourRoots(t *testing.T) {
	n := 0
	f := New(&monitor{}, IgnorePCID, func(Switch) { n++ })
	f.Watch(0x5cda000)
	f.Handle(write(0, 0x5cda000, 0x5cdb000))
	f.Handle(write(0, 0x5cdb000, 0x7000000))
	if n != 1 {
		t.Errorf("%d switches, want 1", n)
	}
}

func TestStartStop(t *testing.T) {
	m := &monitor{}
	f := New(m, IgnoreKPTI, func(Switch) {})
	if err := errors.Join(f.Start(), f.Stop()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"enable", "disable"}, m.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	want := xen.CtrlRegOptions{IgnoreBits: IgnoreKPTI}
	if diff := cmp.Diff(want, m.opts); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	m.err = xen.ErrNotSupported
	if err := f.Start(); !errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("Start: %v", err)
	}
}

func BenchmarkHandle(b *testing.B) {
	f := New(&monitor{}, IgnoreKPTI, func(Switch) {})
	for i := range 256 {
		f.Watch(vmi.CR3(0x10000000 + i<<13))
	}
	r := write(0, 0x1000000, 0x10000000+77<<13)
	b.ReportAllocs()
	for b.Loop() {
		f.Handle(r)
	}
}
