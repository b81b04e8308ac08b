package xen_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// openFake opens a fake hypervisor and checks in the end that nothing is left
// behind.
func openFake(t testing.TB, cfg *xenfake.Config) (*xenfake.Xen, *xen.Hypervisor) {
	t.Helper()
	x := xenfake.New(t, cfg)
	h, err := xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		for _, l := range x.Leaks() {
			t.Error("leak:", l)
		}
	})
	return x, h
}

func TestOpenReleases(t *testing.T) {
	for minor := 14; minor <= 22; minor++ {
		x := xenfake.New(t, &xenfake.Config{Major: 4, Minor: minor, Extra: ".1"})
		h, err := xen.Open(&xen.Options{Devices: x})
		if err != nil {
			t.Errorf("4.%d: %v", minor, err)
			continue
		}
		if diff := cmp.Diff(xen.Version{Major: 4, Minor: minor, Extra: ".1"}, h.Version()); diff != "" {
			t.Error(diff)
		}
		x.AddDomain(&xenfake.DomainConfig{ID: 3, Name: "three"})
		x.AddDomain(&xenfake.DomainConfig{ID: 5, Name: "five"})
		var ids []xen.DomID
		for info, err := range h.Domains() {
			if err != nil {
				t.Errorf("4.%d: %v", minor, err)
			}
			ids = append(ids, info.ID)
		}
		if diff := cmp.Diff([]xen.DomID{0, 3, 5}, ids); diff != "" {
			t.Errorf("4.%d: domains: %s", minor, diff)
		}
		// Up to 4.17 Xen answers with domain 5 here.
		if _, err := h.Domain(4); !errors.Is(err, xen.ErrNoDomain) {
			t.Errorf("4.%d: Domain(4): %v", minor, err)
		}
		d, err := h.DomainByName("five")
		if err != nil {
			t.Errorf("4.%d: %v", minor, err)
			continue
		}
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Errorf("4.%d: %v", minor, err)
			continue
		}
		if err := errors.Join(m.Close(), h.Close(), h.Close()); err != nil {
			t.Errorf("4.%d: %v", minor, err)
		}
	}
}

// A release whose domctl version is not the table's, as 4.18 with 4.17's.
func TestOpenProbesDomctl(t *testing.T) {
	openFake(t, &xenfake.Config{Major: 4, Minor: 18, Domctl: 0x15})
	openFake(t, &xenfake.Config{Major: 5, Minor: 0, Domctl: 0x18, Sysctl: 0x16})
}

func TestOpenErrors(t *testing.T) {
	missing := func(k device.Kind, err error) map[device.Kind]error {
		return map[device.Kind]error{k: &fs.PathError{Op: "open", Path: k.String(), Err: err}}
	}
	for _, tt := range []struct {
		name string
		cfg  xenfake.Config
		is   error
		says string
	}{
		{"not Xen", xenfake.Config{Missing: missing(device.Privcmd, syscall.ENOENT)}, xen.ErrPlatform, "not a Xen control domain"},
		{"not root", xenfake.Config{Missing: missing(device.Privcmd, syscall.EACCES)}, xen.ErrPermission, "run as root in dom0"},
		{"old kernel", xenfake.Config{Missing: missing(device.Hypercall, syscall.ENOENT)}, xen.ErrPlatform, "Linux 4.18"},
		{"other system", xenfake.Config{Missing: map[device.Kind]error{device.Privcmd: device.ErrPlatform}}, xen.ErrPlatform, "needs a Xen control domain"},
		{"guest", xenfake.Config{Deny: map[uint64]syscall.Errno{abi.HypercallXenVersion: syscall.EPERM}}, xen.ErrPermission, "run in dom0"},
		{"no control", xenfake.Config{Deny: map[uint64]syscall.Errno{abi.HypercallDomctl: syscall.EPERM}}, xen.ErrPermission, "run in dom0"},
		{"too old", xenfake.Config{Minor: 12, Major: 4, Domctl: 0x11}, xen.ErrVersion, "Xen 4.12 speaks none"},
		{"too new", xenfake.Config{Minor: 30, Major: 4, Domctl: 0x19}, xen.ErrVersion, "speaks 0x19"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := xenfake.New(t, &tt.cfg)
			_, err := xen.Open(&xen.Options{Devices: x})
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want %q in one line, matching %q", err, tt.says, tt.is)
			}
			var e *xen.Error
			if !errors.As(err, &e) {
				t.Errorf("%T is no *xen.Error", err)
			}
			if leaks := x.Leaks(); leaks != nil {
				t.Error("leaks:", leaks)
			}
		})
	}
}

// A hypervisor that was built without events is good for the rest.
func TestOpenNoVMEvent(t *testing.T) {
	x, h := openFake(t, &xenfake.Config{Major: 4, Minor: 22, NoVMEvent: true})
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Pause(), d.Unpause()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"OpenMonitor":    func() error { _, err := d.OpenMonitor(nil); return err }(),
		"MonitorState":   func() error { _, err := d.MonitorState(); return err }(),
		"RecoverMonitor": d.RecoverMonitor(nil),
		"Capabilities":   func() error { _, err := d.Capabilities(); return err }(),
		"CR3Filter":      func() error { _, err := d.CR3Filter(); return err }(),
	} {
		if !errors.Is(err, xen.ErrNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every call of Open fails once.
func TestOpenFaults(t *testing.T) {
	x := xenfake.New(t, nil)
	h, err := xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	n := x.Calls()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for k := 1; k <= n; k++ {
		x := xenfake.New(t, nil)
		x.FailCall(k, syscall.EIO)
		h, err := xen.Open(&xen.Options{Devices: x})
		if err != nil {
			failed++
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("call %d: %v", k, err)
			}
		} else if err := h.Close(); err != nil {
			t.Errorf("call %d: Close: %v", k, err)
		}
		if leaks := x.Leaks(); leaks != nil {
			t.Errorf("call %d: leaks: %v", k, leaks)
		}
	}
	if failed == 0 {
		t.Error("no fault was noticed")
	}
}

func TestErrorIs(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		syscall.EPERM:      xen.ErrPermission,
		syscall.EACCES:     xen.ErrPermission,
		syscall.ESRCH:      xen.ErrNoDomain,
		syscall.EBUSY:      xen.ErrBusy,
		syscall.EOPNOTSUPP: xen.ErrNotSupported,
		syscall.ENOSYS:     xen.ErrNotSupported,
		syscall.EIO:        nil,
	} {
		err := error(&xen.Error{Op: "test", Domain: 7, Errno: errno})
		for _, s := range []error{xen.ErrPlatform, xen.ErrNotSupported, xen.ErrPermission, xen.ErrVersion, xen.ErrNoDomain, xen.ErrBusy, xen.ErrClosed} {
			if got := errors.Is(err, s); got != (s == want) {
				t.Errorf("errors.Is(%v, %v) = %v", err, s, got)
			}
		}
		if !errors.Is(err, errno) {
			t.Errorf("%v does not unwrap to its errno", err)
		}
	}
}
