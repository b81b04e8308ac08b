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

// A denial by the policy and a version that is not spoken are both EACCES.
func TestAccessDenied(t *testing.T) {
	denied := ""
	x, h := openFake(t, &xenfake.Config{
		AltP2M: true,
		Flask:  true,
		Policy: func(call string) bool { return call == denied },
	})
	x.AddDomain(&xenfake.DomainConfig{ID: 1, Name: "one", AltP2M: true})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	ops := []struct {
		call, op string
		do       func() error
	}{
		{"domctl pausedomain", "domctl pausedomain", d.Pause},
		{"domctl getdomaininfo", "domctl getdomaininfo", func() error { _, err := d.Info(); return err }},
		{"domctl gethvmcontext_partial", "domctl gethvmcontext_partial", func() error { _, err := d.Registers(0); return err }},
		{"hypercall 35", "sysctl getdomaininfolist", func() error {
			for _, err := range h.Domains() {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"hvm_op 25", "altp2m set_domain_state", func() error { return d.SetAltP2M(true) }},
		{"domctl vm_event_op 0", "vm_event enable", func() error { _, err := d.OpenMonitor(nil); return err }},
	}
	for _, tt := range ops {
		denied = tt.call
		wantError(t, "policy", tt.do(), tt.op, 1, syscall.EACCES, xen.ErrPermission, "FLASK")
	}
	denied = ""
	if p, err := h.Policy(); p != xen.PolicyEnforcing || err != nil {
		t.Errorf("policy %v, %v", p, err)
	}
	x.SetDomctlVersion(abi.DomctlVersionKnown)
	wantError(t, "version", d.Pause(), "domctl pausedomain", 1, syscall.EACCES, xen.ErrVersion, "start this program anew")
}

// What a control domain alone may do is EPERM, for another reason.
func TestNotControlDomain(t *testing.T) {
	deny := map[uint64]syscall.Errno{}
	x, h := openFake(t, &xenfake.Config{Deny: deny})
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	deny[abi.HypercallDomctl] = syscall.EPERM
	err = d.Pause()
	wantError(t, "control", err, "domctl pausedomain", 1, syscall.EPERM, xen.ErrPermission, "")
	if strings.Contains(err.Error(), "FLASK") {
		t.Errorf("%v", err)
	}
}

// wantError checks an error's parts, and that it matches one sentinel only. An
// operation without a domain may have any.
func wantError(t *testing.T, name string, err error, op string, dom xen.DomID, errno syscall.Errno, is error, says string) {
	t.Helper()
	var e *xen.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: %s: %v", name, op, err)
		return
	}
	if e.Op != op || e.Domain != dom && e.Domain != xen.NoDomID || e.Errno != errno || !errors.Is(err, errno) {
		t.Errorf("%s: op %q domain %v errno %v, want %q %v %v", name, e.Op, e.Domain, e.Errno, op, dom, errno)
	}
	for _, s := range []error{xen.ErrPlatform, xen.ErrNotSupported, xen.ErrPermission, xen.ErrVersion, xen.ErrNoDomain, xen.ErrBusy, xen.ErrClosed} {
		if got := errors.Is(err, s); got != (s == is) {
			t.Errorf("%s: errors.Is(%v, %v) = %t", name, err, s, got)
		}
	}
	if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %q lacks %q, or has lines", name, err, says)
	}
}
