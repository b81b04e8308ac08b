//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// A kernel that boots under a monitor sets its registers: that for system calls
// to an address which the guest names itself. The guest that comes up has got
// behind every access to its descriptor tables, and every CPUID.
func TestLabBootEvents(t *testing.T) {
	const lstar = 0xc0000082
	g := labtest.CreatePaused(t, guest.Spec{MemoryMiB: 128, KASLR: true})
	d := lookup(t, g)
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := errors.Join(m.EnableMSR(lstar, nil), m.EnableDescriptorAccess(), m.EnableCPUID()); err != nil {
		t.Fatal(err)
	}
	var entry uint64
	tables := map[xen.DescriptorTable]int{}
	cpuids := 0
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := m.Serve(ctx, func(r *xen.Request) xen.Response {
			switch r.Reason {
			case xen.ReasonMovToMSR:
				if r.MSR.Index != lstar {
					t.Errorf("request %+v", *r)
				}
				entry = r.MSR.New
			case xen.ReasonDescriptorAccess:
				if r.Descriptor.Write {
					tables[r.Descriptor.Table]++
				}
			case xen.ReasonCPUID:
				if cpuids++; cpuids == 1000 { // enough of them, they cost time
					if err := m.DisableCPUID(); err != nil {
						t.Error(err)
					}
				}
			default:
				t.Errorf("request %+v", *r)
			}
			return xen.Response{}
		})
		if err != context.Canceled {
			t.Errorf("Serve: %v", err)
		}
	})
	g.Unpause(t.Context())
	if err := g.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
	symbol := g.MustExec(t.Context(), "grep -w entry_SYSCALL_64 /proc/kallsyms")
	cancel()
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(symbol, fmt.Sprintf("%016x ", entry)) {
		t.Errorf("LSTAR was set to %#x, the guest says %q", entry, symbol)
	}
	t.Logf("LSTAR %#x; writes of descriptor tables %v; %d CPUIDs", entry, tables, cpuids)
	if tables[xen.GDTR] == 0 || tables[xen.IDTR] == 0 || cpuids == 0 {
		t.Errorf("writes of descriptor tables %v, %d CPUIDs", tables, cpuids)
	}
}
