package xen_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// One program monitors many domains, each on a goroutine of its own. Some die,
// which ends their goroutine and no other.
func TestManyDomains(t *testing.T) {
	const domains, events = 32, 50
	x, h := openFake(t, &xenfake.Config{Capabilities: 0x1f7f})
	var wg sync.WaitGroup
	for i := range domains {
		id := xen.DomID(i + 1)
		g := x.AddDomain(&xenfake.DomainConfig{ID: uint16(id), Name: fmt.Sprint("guest", id)})
		dies := i%2 == 1
		wg.Go(func() {
			d, err := h.Domain(id)
			if err != nil {
				t.Error(err)
				return
			}
			m, err := d.OpenMonitor(nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() {
				if err := m.Close(); err != nil {
					t.Errorf("domain %v: Close: %v", id, err)
				}
			}()
			if err := m.EnableCPUID(); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			wg.Go(func() {
				for i := range events {
					ev := &xenfake.Event{Reason: abi.ReasonCPUID, U: [32]byte{0: 2, 4: byte(i)}}
					if _, err := g.Trap(t.Context(), ev); err != nil {
						t.Errorf("domain %v: %v", id, err)
					}
				}
				if dies {
					g.Kill()
				} else {
					cancel()
				}
			})
			seen := 0
			err = m.Serve(ctx, func(r *xen.Request) xen.Response {
				if r.CPUID.Leaf != uint32(seen) {
					t.Errorf("domain %v: event %d is that of %d", id, seen, r.CPUID.Leaf)
				}
				seen++
				return xen.Response{}
			})
			want := context.Canceled
			if dies {
				want = xen.ErrNoDomain
			}
			if !errors.Is(err, want) || seen != events {
				t.Errorf("domain %v: Serve: %v after %d events, want %v", id, err, seen, want)
			}
		})
	}
	wg.Wait()
	for info, err := range h.Domains() {
		if err != nil {
			t.Fatal(err)
		}
		if g := x.Domain(uint16(info.ID)); g.Monitored() || g.Pauses() != 0 {
			t.Errorf("domain %v: monitored %t, paused %d times", info.ID, g.Monitored(), g.Pauses())
		}
	}
}
