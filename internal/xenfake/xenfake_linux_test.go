package xenfake

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// recorder is a test that takes errors as data.
type recorder struct {
	testing.TB
	errors  []string
	cleanup []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, format)
}

// monitored returns a domain whose ring is enabled, and the ring's page.
func monitored(t *testing.T, tb testing.TB) (*Domain, []byte) {
	x := New(tb, nil)
	d := x.AddDomain(&DomainConfig{ID: 1})
	clear(d.page(ringGFN))
	if errno := x.vmEventOp(d, &abi.VMEventOp{Op: abi.VMEventEnable, Mode: abi.VMEventModeMonitor}); errno != 0 {
		t.Fatal(errno)
	}
	return d, d.page(ringGFN)
}

// Each breach of the ring's rules is noticed, and fails the test at its end.
func TestViolations(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(d *Domain, page []byte)
		says string
	}{
		{"none", func(d *Domain, page []byte) {}, ""},
		{"too many responses", func(d *Domain, page []byte) {
			atomic.StoreUint32(d.ring.index(abi.RingRspProd), 1)
			d.resume()
		}, "1 responses to 0 requests"},
		{"response index goes back", func(d *Domain, page []byte) {
			atomic.StoreUint32(d.ring.index(abi.RingRspProd), ^uint32(0))
			d.resume()
		}, "responses to 0 requests"},
		{"wrong version", func(d *Domain, page []byte) {
			d.put(&Event{Reason: 12, Async: true})
			*hcbuf.Overlay[uint32](page[abi.RingEntries:]) = 3
			atomic.StoreUint32(d.ring.index(abi.RingRspProd), 1)
			d.resume()
		}, "response of version 3"},
		{"unpause of a running vCPU", func(d *Domain, page []byte) {
			d.put(&Event{Reason: 12, Async: true, Flags: abi.FlagVCPUPaused})
			atomic.StoreUint32(d.ring.index(abi.RingRspProd), 1)
			d.resume()
		}, "does not wait"},
		{"DISABLE with a waiting vCPU", func(d *Domain, page []byte) {
			d.put(&Event{Reason: 12})
			d.x.vmEventOp(d, &abi.VMEventOp{Op: abi.VMEventDisable, Mode: abi.VMEventModeMonitor})
		}, "frozen"},
		{"page not zero", func(d *Domain, page []byte) {
			page[abi.RingRspProd] = 1
			newFakeRing(d, page)
		}, "not zero at ENABLE"},
		{"unpause with a frozen vCPU", func(d *Domain, page []byte) {
			d.put(&Event{Reason: 12})
			d.pauses = 1
			d.x.vmEventOp(d, &abi.VMEventOp{Op: abi.VMEventDisable, Mode: abi.VMEventModeMonitor})
			d.x.domctl(&abi.Domctl{Cmd: abi.DomctlUnpauseDomain, InterfaceVersion: d.x.cfg.Domctl, Domain: 1})
		}, "stays frozen"},
		{"unpause with too many responses", func(d *Domain, page []byte) {
			d.pauses = 1
			*hcbuf.Overlay[abi.VMEventHeader](page[abi.RingEntries:]) = abi.VMEventHeader{Version: d.x.cfg.VMEvent, Flags: abi.FlagVCPUPaused}
			atomic.StoreUint32(d.ring.index(abi.RingRspProd), 1)
			d.resume()
			d.x.domctl(&abi.Domctl{Cmd: abi.DomctlUnpauseDomain, InterfaceVersion: d.x.cfg.Domctl, Domain: 1})
		}, "too many responses"},
		{"step unseen", func(d *Domain, page []byte) {
			d.x.cfg.Capabilities |= 1 << abi.MonitorSingleStep
			d.follow(&abi.VMEventHeader{Flags: abi.FlagToggleSingleStep})
		}, "steps unseen"},
		{"access that no processor knows", func(d *Domain, page []byte) {
			d.altp2m.reset(true)
			d.altp2m.views[1] = map[uint64]ViewEntry{}
			d.x.viewAccess(d, &abi.AltP2MAccess{View: 1, GFN: 1, Access: abi.AccessW}, 0)
		}, "crashes the guest"},
		{"event without a ring", func(d *Domain, page []byte) {
			d.ring = nil
			d.x.monitorOp(d, &abi.MonitorOp{Op: abi.MonitorEnable, Event: abi.MonitorSoftwareBreakpoint})
		}, "without a ring"},
	} {
		r := &recorder{TB: t}
		d, page := monitored(t, r)
		tt.do(d, page)
		got := strings.Join(d.x.Violations(), "; ")
		if (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%s: violations %q, want %q", tt.name, got, tt.says)
		}
		for _, f := range r.cleanup {
			f()
		}
		if (len(r.errors) > 0) != (tt.says != "") {
			t.Errorf("%s: the test got errors %q", tt.name, r.errors)
		}
	}
}

// Memory of the Go heap is not for hypercalls.
func TestHypercallMemory(t *testing.T) {
	x := New(t, nil)
	d := new(abi.Domctl)
	*d = abi.Domctl{Cmd: abi.DomctlGetDomainInfo, InterfaceVersion: 0x15}
	if _, errno := x.hypercallOp(abi.HypercallDomctl, hcbuf.Addr(d), 0, 0); errno != syscall.EFAULT {
		t.Errorf("errno %v", errno)
	}
}
