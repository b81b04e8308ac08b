package xen_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

func TestWaitSuspend(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(g *xenfake.Domain, cancel func())
		want error
	}{
		{"asked to", func(g *xenfake.Domain, _ func()) { g.RequestShutdown("suspend") }, nil},
		{"it has by itself", func(g *xenfake.Domain, _ func()) { g.Shutdown(2) }, nil},
		{"canceled", func(_ *xenfake.Domain, cancel func()) { cancel() }, context.Canceled},
		{"destroyed", func(g *xenfake.Domain, _ func()) { g.Kill() }, xen.ErrNoDomain},
		{"gone", func(g *xenfake.Domain, _ func()) { g.Remove() }, xen.ErrNoDomain},
	} {
		for _, late := range []bool{false, true} {
			x, h := openFake(t, nil)
			g := x.AddDomain(&xenfake.DomainConfig{ID: 1})
			d, err := h.Domain(1)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// What it has nothing to do with.
			g.RequestShutdown("")
			done := make(chan error, 1)
			if !late {
				tc.do(g, cancel)
			}
			go func() { done <- d.WaitSuspend(ctx) }()
			if late {
				g.RequestShutdown("reboot")
				select {
				case err := <-done:
					t.Errorf("%s: ended before: %v", tc.name, err)
				case <-time.After(20 * time.Millisecond):
				}
				tc.do(g, cancel)
			}
			if err := <-done; !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
			}
		}
	}
	x, h := openFake(t, &xenfake.Config{StoreDenied: true})
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WaitSuspend(t.Context()); !errors.Is(err, xen.ErrPermission) {
		t.Errorf("without permission: %v", err)
	}
}
