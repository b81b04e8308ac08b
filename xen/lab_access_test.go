//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"github.com/govmi/govmi/xen"
)

// The page that system calls begin on may not be executed: the next one is an
// event, and takes place when the handler allows it. A monitor that goes without
// doing so leaves a guest that makes system calls.
func TestLabAccess(t *testing.T) {
	needVMX(t)
	g := sharedGuest(t)
	d := lookup(t, g)
	regs, err := d.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	busy := g.Start(t.Context(), "exec workload cr3switch -n 100000000")
	defer g.MustExec(t.Context(), fmt.Sprintf("kill -9 %d", busy.PID()))
	busy.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
	frame := frameOf(t, d, regs.CR3, regs.LSTAR)
	for _, allow := range []bool{true, false} {
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		var once sync.Once
		seen := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			err := m.Serve(ctx, func(r *xen.Request) xen.Response {
				if r.Reason != xen.ReasonMemAccess || r.Access.GFN != frame || !r.Access.Execute || r.Access.Write ||
					r.Access.AddrValid && r.Access.Addr>>xen.PageShift != regs.LSTAR>>xen.PageShift {
					t.Errorf("request %+v", *r)
				}
				once.Do(func() { close(seen) })
				if allow {
					if err := m.SetAccess(frame, 1, xen.AccessRWX); err != nil {
						t.Error(err)
					}
				}
				return xen.Response{}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Serve: %v", err)
			}
		})
		if err := m.SetAccess(frame, 1, xen.AccessRW); err != nil {
			t.Fatal(err)
		}
		<-seen
		if allow {
			g.MustExec(t.Context(), "true")
		}
		cancel()
		wg.Wait()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		g.MustExec(t.Context(), "true")
	}
}
