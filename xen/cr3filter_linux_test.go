package xen_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// patched is a hypervisor with the filter and the CR3-target list.
func patched() *xenfake.Config { return &xenfake.Config{CR3Filter: true, CR3Targets: true} }

var member = xen.CR3FilterOptions{Mode: xen.CR3FilterMember, Mask: 0x1fff, TargetList: true, Halves: 0x1800}

func TestCR3Filter(t *testing.T) {
	_, g, d := fakeGuest(t, patched())
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	check := func(want xen.CR3FilterInfo) {
		t.Helper()
		want.Version, want.MaxEntries, want.TargetListAvailable = 1, 256, true
		got, err := m.CR3Filter()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v, %s", err, diff)
		}
	}
	values := func(want ...uint64) {
		t.Helper()
		got, err := m.CR3Values()
		if diff := cmp.Diff(append([]uint64{}, want...), got); diff != "" || err != nil {
			t.Errorf("%v, %s", err, diff)
		}
	}
	check(xen.CR3FilterInfo{})
	must(m.SetCR3Filter(member))
	check(xen.CR3FilterInfo{CR3FilterOptions: member})
	must(m.AddCR3(0x5abc))
	must(m.AddCR3(0x8000))
	values(0x4000, 0x8000)
	must(m.EnableCtrlReg(xen.CR3, nil))

	// Into the set, within it, out of it, outside of it.
	for _, w := range []struct {
		new, old uint64
		err      error
	}{
		{0x4001, 0x2000, nil},
		{0x5801, 0x4001, xenfake.ErrFiltered},
		{0x8000, 0x4000, xenfake.ErrFiltered},
		{0xa000, 0x8000, nil},
		{0xc000, 0xa000, xenfake.ErrFiltered},
	} {
		ev := cr3Event(0, w.new)
		ev.CtrlReg.Old = w.old
		if err := g.Inject(ev); err != w.err {
			t.Errorf("%#x to %#x: %v, want %v", w.old, w.new, err, w.err)
		}
	}
	check(xen.CR3FilterInfo{CR3FilterOptions: member, Entries: 2, Forwarded: 2, Dropped: 3})
	match := xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0x1fff}
	must(m.SetCR3Filter(match))
	check(xen.CR3FilterInfo{CR3FilterOptions: match, Entries: 2, Forwarded: 2, Dropped: 3})

	// New options of the event turn it off and on; the filter stays.
	must(m.EnableCtrlReg(xen.CR3, &xen.CtrlRegOptions{Async: true}))
	values(0x4000, 0x8000)
	check(xen.CR3FilterInfo{CR3FilterOptions: match, Entries: 2})

	must(m.RemoveCR3(0x4fff))
	values(0x8000)
	must(m.ClearCR3())
	values()
	must(m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0xfff}))
	must(m.SetCR3Filter(xen.CR3FilterOptions{}))
	check(xen.CR3FilterInfo{})
	must(m.SetCR3Filter(member))
	must(m.DisableCtrlReg(xen.CR3))
	check(xen.CR3FilterInfo{})

	must(m.SetCR3Filter(member))
	must(m.AddCR3(0x4000))
	must(m.Close())
	if _, _, on := g.CR3Filter(); on {
		t.Error("there is a filter after Close")
	}
}

func TestCR3FilterErrors(t *testing.T) {
	const valid = 0x4000
	full := func(m *xen.Monitor) error {
		err := m.SetCR3Filter(member)
		for i := range uint64(256) {
			err = errors.Join(err, m.AddCR3((i+1)<<20))
		}
		return err
	}
	set := func(m *xen.Monitor) error { return m.SetCR3Filter(member) }
	one := func(m *xen.Monitor) error { return errors.Join(m.SetCR3Filter(member), m.AddCR3(valid)) }
	try := func(o xen.CR3FilterOptions) func(m *xen.Monitor) error {
		return func(m *xen.Monitor) error { return m.SetCR3Filter(o) }
	}
	query := func(m *xen.Monitor) error { _, err := m.CR3Filter(); return err }
	list := func(m *xen.Monitor) error { _, err := m.CR3Values(); return err }
	add := func(v uint64) func(m *xen.Monitor) error { return func(m *xen.Monitor) error { return m.AddCR3(v) } }
	remove := func(v uint64) func(m *xen.Monitor) error {
		return func(m *xen.Monitor) error { return m.RemoveCR3(v) }
	}
	stock, next := &xenfake.Config{}, &xenfake.Config{CR3Filter: true, CR3FilterVersion: 2}
	noTargets := &xenfake.Config{CR3Filter: true}
	for _, tt := range []struct {
		name  string
		cfg   *xenfake.Config
		first func(*xen.Monitor) error
		do    func(*xen.Monitor) error
		is    error
		says  string
	}{
		{"query, stock Xen", stock, nil, query, xen.ErrNotSupported, "build one with patches/xen"},
		{"set, stock Xen", stock, nil, set, xen.ErrNotSupported, "build one with patches/xen"},
		{"add, stock Xen", stock, nil, add(valid), xen.ErrNotSupported, "build one with patches/xen"},
		{"remove, stock Xen", stock, nil, remove(valid), xen.ErrNotSupported, "build one with patches/xen"},
		{"list, stock Xen", stock, nil, list, xen.ErrNotSupported, "build one with patches/xen"},
		{"clear, stock Xen", stock, nil, (*xen.Monitor).ClearCR3, xen.ErrNotSupported, "build one with patches/xen"},
		{"query, another version", next, nil, query, xen.ErrVersion, "version 2"},
		{"set, another version", next, nil, set, xen.ErrVersion, "version 2"},
		{"add, another version", next, nil, add(valid), xen.ErrVersion, "version 2"},
		{"no target list", noTargets, nil, set, xen.ErrNotSupported, "do without TargetList"},
		{"unknown mode", patched(), nil, try(xen.CR3FilterOptions{Mode: 3}), syscall.EINVAL, "mode 3"},
		{"off with a mask", patched(), nil, try(xen.CR3FilterOptions{Mask: 0xfff}), syscall.EINVAL, "mask 0xfff"},
		{"mask too wide", patched(), nil, try(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 1 << 63}), syscall.EINVAL, "mask"},
		{"halves without a list", patched(), nil, try(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0x1fff, Halves: 0x1800}), syscall.EINVAL, "halves"},
		{"halves outside the mask", patched(), nil,
			try(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0xfff, TargetList: true, Halves: 0x1800}), syscall.EINVAL, "halves"},
		{"another mask", patched(), one, try(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0xfff}), xen.ErrBusy, "ClearCR3 first"},
		{"add without a filter", patched(), nil, add(valid), xen.ErrNotFound, "SetCR3Filter first"},
		{"add twice", patched(), one, add(valid | 0x1801), xen.ErrExists, "is watched already"},
		{"add too many", patched(), full, add(valid), xen.ErrNoSpace, "holds 256 values"},
		{"add with the no-flush bit", patched(), set, add(1<<63 | valid), syscall.EINVAL, "cannot be in this guest's CR3"},
		{"remove without a filter", patched(), nil, remove(valid), xen.ErrNotFound, "SetCR3Filter first"},
		{"remove what is not there", patched(), set, remove(valid), xen.ErrNotFound, "0x4000 is not watched"},
		{"remove with the no-flush bit", patched(), one, remove(1<<63 | valid), syscall.EINVAL, "cannot be in this guest's CR3"},
		{"list without a filter", patched(), nil, list, xen.ErrNotFound, "SetCR3Filter first"},
		{"clear without a filter", patched(), nil, (*xen.Monitor).ClearCR3, xen.ErrNotFound, "SetCR3Filter first"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, d := fakeGuest(t, tt.cfg)
			m := openMonitor(t, d)
			if tt.first != nil {
				if err := tt.first(m); err != nil {
					t.Fatal(err)
				}
			}
			err := tt.do(m)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want %v and %q in one line", err, tt.is, tt.says)
			}
		})
	}
}

// All that fit are listed: more than a page.
func TestCR3ValuesFull(t *testing.T) {
	_, _, d := fakeGuest(t, patched())
	m := openMonitor(t, d)
	if err := m.SetCR3Filter(member); err != nil {
		t.Fatal(err)
	}
	var want []uint64
	for i := range uint64(256) {
		want = append(want, i<<13)
		if err := m.AddCR3(i << 13); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.CR3Values()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}

// The structures reach Xen as patches/xen lays them out.
func TestCR3FilterSettings(t *testing.T) {
	_, g, d := fakeGuest(t, patched())
	m := openMonitor(t, d)
	if err := m.SetCR3Filter(member); err != nil {
		t.Fatal(err)
	}
	got, _, _ := g.CR3Filter()
	if want := (abi.CR3Set{Mode: 2, Flags: 1, Mask: 0x1fff, Halves: 0x1800}); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
}
