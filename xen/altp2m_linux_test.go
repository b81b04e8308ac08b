package xen_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

func TestViews(t *testing.T) {
	_, g, d := fakeGuest(t, vmx())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	if on, err := d.AltP2M(); on || err != nil {
		t.Errorf("AltP2M() = %v, %v", on, err)
	}
	must(d.SetAltP2M(true))
	must(d.SetAltP2M(true))
	if on, err := d.AltP2M(); !on || err != nil || !g.AltP2M() {
		t.Errorf("AltP2M() = %v, %v", on, err)
	}
	v, err := d.CreateView()
	if v != 1 || err != nil {
		t.Fatalf("CreateView() = %d, %v", v, err)
	}

	last, err := d.MaximumGPFN()
	must(err)
	shadow := last + 1
	must(d.Populate(shadow))
	must(d.ChangeGFN(v, 3, shadow))
	must(d.SetViewAccess(v, 3, xen.AccessRX))
	if e := g.ViewEntry(1, 3); e != (xenfake.ViewEntry{GFN: uint64(shadow), Access: abi.AccessRX}) {
		t.Errorf("the view has %+v", e)
	}
	must(d.SetViewAccess(v, 3, xen.AccessDefault))
	must(d.ResetGFN(v, 3))
	if e := g.ViewEntry(1, 3); e.GFN != 3 {
		t.Errorf("the view has %+v", e)
	}
	must(d.SwitchView(v))
	if g.View(0) != 1 || g.View(1) != 1 {
		t.Error("not all vCPUs are in the view")
	}
	must(d.SwitchView(0))
	must(d.DestroyView(v))
	must(d.RemoveFrame(shadow))
	must(d.SetAltP2M(false))
	if g.AltP2M() || g.Views() != 0 {
		t.Errorf("%d views left", g.Views())
	}
}

func TestViewErrors(t *testing.T) {
	noHost := &xenfake.Config{Capabilities: 0x1f7f}
	xen420 := vmx()
	xen420.Major, xen420.Minor = 4, 20
	state := func(d *xen.Domain) error { _, err := d.AltP2M(); return err }
	on := func(d *xen.Domain) error { return d.SetAltP2M(true) }
	create := func(d *xen.Domain) error { _, err := d.CreateView(); return err }
	view := func(d *xen.Domain) error { return errors.Join(on(d), create(d)) }
	inView := func(d *xen.Domain) error { return errors.Join(view(d), d.SwitchView(1)) }
	full := func(d *xen.Domain) error {
		err := on(d)
		for range xenfake.MaxViews - 1 {
			err = errors.Join(err, create(d))
		}
		return err
	}
	change := func(v xen.View, from, to xen.GFN) func(*xen.Domain) error {
		return func(d *xen.Domain) error { return d.ChangeGFN(v, from, to) }
	}
	access := func(v xen.View, gfn xen.GFN, a xen.Access) func(*xen.Domain) error {
		return func(d *xen.Domain) error { return d.SetViewAccess(v, gfn, a) }
	}
	destroy := func(v xen.View) func(*xen.Domain) error {
		return func(d *xen.Domain) error { return d.DestroyView(v) }
	}
	change0 := func(d *xen.Domain) error { return d.SwitchView(5) }
	for _, tt := range []struct {
		name   string
		cfg    *xenfake.Config
		forbid bool // the domain may not have views
		first  func(*xen.Domain) error
		do     func(*xen.Domain) error
		is     error
		says   string
	}{
		{"state, no host support", noHost, false, nil, state, xen.ErrNotSupported, "altp2m=1 on Xen's command line"},
		{"on, no host support", noHost, false, nil, on, xen.ErrNotSupported, "altp2m=1 on Xen's command line"},
		{"create, no host support", noHost, false, nil, create, xen.ErrNotSupported, "altp2m=1 on Xen's command line"},
		{"state, not configured", vmx(), true, nil, state, xen.ErrNotSupported, `altp2m="external"`},
		{"on, not configured", vmx(), true, nil, on, xen.ErrNotSupported, `altp2m="external"`},
		{"create, not configured", vmx(), true, nil, create, xen.ErrNotSupported, `altp2m="external"`},
		{"create, off", vmx(), false, nil, create, xen.ErrNotSupported, "SetAltP2M(true) first"},
		{"switch, off", vmx(), false, nil, change0, xen.ErrNotSupported, "SetAltP2M(true) first"},
		{"too many", vmx(), false, full, create, xen.ErrNoSpace, "no view is left"},
		{"too many, 4.20", xen420, false, full, create, xen.ErrNoSpace, "no view is left"},
		{"destroy view 0", vmx(), false, on, destroy(0), xen.ErrNotSupported, "view 0"},
		{"destroy none", vmx(), false, on, destroy(4), xen.ErrBusy, "there is no view 4"},
		{"destroy in use", vmx(), false, inView, destroy(1), xen.ErrBusy, "SwitchView(0) first"},
		{"switch to none", vmx(), false, on, change0, syscall.EINVAL, "there is no view 5"},
		{"change view 0", vmx(), false, on, change(0, 1, 2), xen.ErrNotSupported, "view 0"},
		{"change in none", vmx(), false, on, change(1, 1, 2), syscall.EINVAL, "there is no view 1"},
		{"change from nowhere", vmx(), false, view, change(1, 1000, 2), syscall.EINVAL, "no memory at 0x3e8"},
		{"change to nowhere", vmx(), false, view, change(1, 1, 1000), syscall.EINVAL, "or 0x3e8"},
		{"change to the invalid frame", vmx(), false, view, change(1, 1, ^xen.GFN(0)), xen.ErrNotFound, "no frame"},
		{"reset view 0", vmx(), false, on, func(d *xen.Domain) error { return d.ResetGFN(0, 1) }, xen.ErrNotSupported, "view 0"},
		{"reset in none", vmx(), false, on, func(d *xen.Domain) error { return d.ResetGFN(1, 1) }, syscall.EINVAL, "there is no view 1"},
		{"access in view 0", vmx(), false, on, access(0, 1, xen.AccessR), xen.ErrNotSupported, "view 0"},
		{"access in none", vmx(), false, on, access(2, 1, xen.AccessR), syscall.EINVAL, "there is no view 2"},
		{"access w", vmx(), false, view, access(1, 1, xen.AccessW), xen.ErrNotSupported, "access w is none that a processor knows"},
		{"access wx", vmx(), false, view, access(1, 1, xen.AccessWX), xen.ErrNotSupported, "access wx is none that a processor knows"},
		{"access r_pw, 4.17", vmx(), false, view, access(1, 1, xen.AccessRPW), xen.ErrNotSupported, "knows no access r_pw"},
		{"access 11, 4.20", xen420, false, view, access(1, 1, 11), xen.ErrNotSupported, "knows no access 11"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, h := openFake(t, tt.cfg)
			x.AddDomain(&xenfake.DomainConfig{ID: 1, AltP2M: !tt.forbid})
			d, err := h.Domain(1)
			if err != nil {
				t.Fatal(err)
			}
			if tt.first != nil {
				if err := tt.first(d); err != nil {
					t.Fatal(err)
				}
			}
			err = tt.do(d)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want %v and %q in one line", err, tt.is, tt.says)
			}
		})
	}
}

// Each release's own number stands for the default access, and r_pw where it
// is known.
func TestViewAccessReleases(t *testing.T) {
	for minor := 14; minor <= 22; minor++ {
		cfg := vmx()
		cfg.Major, cfg.Minor = 4, minor
		_, g, d := fakeGuest(t, cfg)
		v := viewOn(t, d)
		for _, a := range []xen.Access{xen.AccessN, xen.AccessR, xen.AccessRW, xen.AccessX, xen.AccessRX, xen.AccessRX2RW, xen.AccessN2RWX, xen.AccessRPW} {
			err := d.SetViewAccess(v, 1, a)
			if a == xen.AccessRPW && minor < 20 {
				if !errors.Is(err, xen.ErrNotSupported) {
					t.Errorf("4.%d: access %v: %v", minor, a, err)
				}
			} else if e := g.ViewEntry(1, 1); err != nil || e.Access != uint16(a) {
				t.Errorf("4.%d: access %v: %+v, %v", minor, a, e, err)
			}
		}
		if err := d.SetViewAccess(v, 1, xen.AccessDefault); err != nil || g.ViewEntry(1, 1).Access != abi.AccessRWX {
			t.Errorf("4.%d: default access: %+v, %v", minor, g.ViewEntry(1, 1), err)
		}
	}
}

func TestFrames(t *testing.T) {
	_, g, d := fakeGuest(t, nil)
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	const gfn = 0x2000
	if err := d.SetMaxPages(info.Pages); err != nil {
		t.Error(err)
	}
	if err := d.Populate(gfn); !errors.Is(err, syscall.ENOMEM) || !strings.Contains(err.Error(), "xl mem-max") {
		t.Errorf("Populate of one too many: %v", err)
	}
	if err := d.SetMaxPages(info.Pages + 1); err != nil {
		t.Error(err)
	}
	if err := d.Populate(gfn); err != nil || g.Page(gfn) == nil {
		t.Errorf("Populate: %v", err)
	}
	if err := d.Populate(gfn); !errors.Is(err, xen.ErrExists) {
		t.Errorf("Populate twice: %v", err)
	}
	if now, err := d.Info(); err != nil || now.MaxPages != info.Pages+1 || now.Pages != info.Pages+1 {
		t.Errorf("Info() = %+v, %v", now, err)
	}
	if err := d.RemoveFrame(gfn); err != nil || g.Page(gfn) != nil {
		t.Errorf("RemoveFrame: %v", err)
	}
	if err := d.RemoveFrame(gfn); !errors.Is(err, syscall.ENOMEM) || !strings.Contains(err.Error(), "no page there") {
		t.Errorf("RemoveFrame twice: %v", err)
	}
	if err := d.SetMaxPages(1 << 63); err == nil {
		t.Error("2^63 pages accepted")
	}
}

// A page that is removed beside a monitor goes when no answer is left that Xen
// could forget: the fake objects to any other order.
func TestRemoveFrameWaitsForTheMonitor(t *testing.T) {
	_, g, d := fakeGuest(t, vmx())
	m := openMonitor(t, d)
	const gfn = 0x2000
	if err := d.Populate(gfn); err != nil {
		t.Fatal(err)
	}
	breakpoint := &xenfake.Event{Reason: abi.ReasonSoftwareBreakpoint}
	if err := g.Inject(breakpoint); err != nil {
		t.Fatal(err)
	}
	if n, err := m.Drain(); n != 1 || err != nil {
		t.Errorf("Drain() = %d, %v", n, err)
	}
	if err := d.RemoveFrame(gfn); err != nil || g.Page(gfn) == nil {
		t.Errorf("RemoveFrame: %v, page %v", err, g.Page(gfn) != nil)
	}
	if err := m.Close(); err != nil || g.Page(gfn) != nil {
		t.Errorf("Close: %v, page %v", err, g.Page(gfn) != nil)
	}
	if err := errors.Join(d.Populate(gfn), d.RemoveFrame(gfn)); err != nil || g.Page(gfn) != nil {
		t.Errorf("without a monitor: %v", err)
	}
}

// Xen turns altp2m off while it takes a domain apart.
func TestViewsOfDyingDomain(t *testing.T) {
	_, g, d := fakeGuest(t, vmx())
	if err := d.SetAltP2M(true); err != nil {
		t.Fatal(err)
	}
	v, err := d.CreateView()
	if err != nil {
		t.Fatal(err)
	}
	g.Kill()
	if err := d.SwitchView(v); !errors.Is(err, xen.ErrNoDomain) || errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("switch: %v", err)
	}
	if _, err := d.VCPUView(0); !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("view: %v", err)
	}
}
