package xen_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// A fork has the parent's memory and registers, and again after a reset.
func TestFork(t *testing.T) {
	for _, minor := range []int{14, 17} {
		cfg := vmx()
		cfg.Major, cfg.Minor, cfg.MemSharing = 4, minor, true
		x, h := openFake(t, cfg)
		parent := x.AddDomain(&xenfake.DomainConfig{ID: 1})
		copy(parent.Page(3), "the parent's")
		child := x.AddDomain(&xenfake.DomainConfig{ID: 2, Empty: true})
		d, err := h.Domain(2)
		if err != nil {
			t.Fatal(err)
		}
		both, state := xen.ForkReset{State: true, Memory: true}, xen.ForkReset{State: true}
		if err := d.ResetFork(both); !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "no fork") {
			t.Errorf("the reset of none: %v", err)
		}
		if err := d.Fork(1, &xen.ForkOptions{BlockInterrupts: true, WithIOMMU: true}); err != nil {
			t.Fatal(err)
		}
		if got := string(child.Page(3)[:12]); got != "the parent's" || parent.Forks() != 1 || child.Pauses() != 1 {
			t.Errorf("memory %q, %d forks, %d pauses", got, parent.Forks(), child.Pauses())
		}
		copy(child.Page(3), "the child's ")
		if err := d.ResetFork(state); (minor < 17) != errors.Is(err, xen.ErrNotSupported) || minor >= 17 && err != nil {
			t.Errorf("4.%d: a part: %v", minor, err)
		}
		if got := string(child.Page(3)[:12]); got != "the child's " {
			t.Errorf("4.%d: memory was reset: %q", minor, got)
		}
		if err := errors.Join(d.ResetFork(xen.ForkReset{}), d.ResetFork(both)); err != nil {
			t.Error(err)
		}
		if got := string(child.Page(3)[:12]); got != "the parent's" {
			t.Errorf("4.%d: after the reset %q", minor, got)
		}
		if err := d.Fork(1, nil); !errors.Is(err, xen.ErrExists) {
			t.Errorf("a second time: %v", err)
		}
		child.Remove()
		if n := parent.Forks(); n != 0 {
			t.Errorf("%d forks are left", n)
		}
	}
}

// What cannot become a fork has an error that says why, and is left alone.
func TestForkErrors(t *testing.T) {
	sharing := func() *xenfake.Config { c := vmx(); c.MemSharing = true; return c }
	for _, tt := range []struct {
		name    string
		cfg     *xenfake.Config
		domain  xenfake.DomainConfig
		parent  xen.DomID
		running bool
		want    error
		advice  string
	}{
		{"Debian's Xen", vmx(), xenfake.DomainConfig{Empty: true}, 1, false, xen.ErrNotSupported, "CONFIG_MEM_SHARING"},
		{"AMD", &xenfake.Config{MemSharing: true}, xenfake.DomainConfig{Empty: true}, 1, false, xen.ErrNotSupported, "Intel"},
		{"shadow paging", sharing(), xenfake.DomainConfig{Empty: true, Shadow: true}, 1, false, xen.ErrNotSupported, "HAP"},
		{"a domain with memory", sharing(), xenfake.DomainConfig{}, 1, false, xen.ErrExists, "empty"},
		{"itself", sharing(), xenfake.DomainConfig{Empty: true}, 2, false, xen.ErrExists, "itself"},
		{"no parent", sharing(), xenfake.DomainConfig{Empty: true}, 7, false, xen.ErrNoDomain, ""},
		{"other vCPUs", sharing(), xenfake.DomainConfig{Empty: true, VCPUs: 2}, 1, false, nil, "number of vCPUs"},
		{"not paused", sharing(), xenfake.DomainConfig{Empty: true}, 1, true, xen.ErrBusy, "not paused"},
	} {
		x, h := openFake(t, tt.cfg)
		parent := x.AddDomain(&xenfake.DomainConfig{ID: 1})
		tt.domain.ID = 2
		x.AddDomain(&tt.domain)
		d, err := h.Domain(2)
		if err != nil {
			t.Fatal(err)
		}
		if tt.running {
			if err := d.Unpause(); err != nil {
				t.Fatal(err)
			}
		}
		err = d.Fork(tt.parent, nil)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.advice) || parent.Forks() != 0 {
			t.Errorf("%s: %v, %d forks", tt.name, err, parent.Forks())
		}
	}
}
