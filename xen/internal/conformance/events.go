package conformance

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/govmi/govmi/xen"
)

var vmExits = &feature{"VM exit events", func(f *Facts) string {
	switch {
	case !f.VMX:
		return "Xen reports none on AMD"
	case f.Minor < 17:
		return "Xen 4.17 has them first"
	}
	return ""
}}

var eventChecks = []check{
	{name: "CPUID events", run: cpuidEvents},
	{name: "debug exception events", run: debugEvents},
	{name: "guest requests", run: guestRequests},
	{name: "MSR and descriptor events", run: msrEvents},
	{name: "VM exit events", needs: vmExits, run: vmExitEvents, absent: func(e *env) error { return e.monitor().EnableVMExit() }},
}

// count serves m and counts the events with a reason; others are errors.
func (e *env) count(m *xen.Monitor, reason xen.Reason, good func(*xen.Request) bool) (n *atomic.Int64, stop func()) {
	n = new(atomic.Int64)
	return n, e.serve(m, func(r *xen.Request) xen.Response {
		if n.Add(1); r.Reason != reason || !good(r) {
			e.Errorf("request %+v", *r)
		}
		return xen.Response{}
	})
}

// seen waits until n events have been counted, which the vCPU did not wait for.
func (e *env) seen(events *atomic.Int64, n int64) {
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); events.Load() < n && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// The guest gets what it asks CPUID for, while and after it is watched.
func cpuidEvents(e *env) {
	const n = 20
	m := e.monitor()
	events, stop := e.count(m, xen.ReasonCPUID, func(r *xen.Request) bool {
		return r.CPUID.InsnLength == 2 && r.Flags&xen.FlagVCPUPaused != 0
	})
	e.must(errors.Join(m.EnableCPUID(), m.EnableCPUID()))
	e.target.Guest.CPUID(e.T, n)
	e.must(errors.Join(m.DisableCPUID(), m.DisableCPUID()))
	stop()
	if events.Load() < n {
		e.Errorf("%d events, the guest executed CPUID %d times at least", events.Load(), n)
	}
}

// A debugger in the guest works on.
func debugEvents(e *env) {
	const n = 20
	m := e.monitor()
	events, stop := e.count(m, xen.ReasonDebugException, func(r *xen.Request) bool {
		return r.Debug.Type == 3 && r.Flags&xen.FlagVCPUPaused == 0
	})
	e.must(m.EnableDebugException())
	e.target.Guest.Steps(e.T, n)
	e.seen(events, n)
	e.must(m.DisableDebugException())
	stop()
	if events.Load() < n {
		e.Errorf("%d events, the guest took %d debug exceptions at least", events.Load(), n)
	}
}

func guestRequests(e *env) {
	const n = 5
	m := e.monitor()
	events, stop := e.count(m, xen.ReasonGuestRequest, func(*xen.Request) bool { return true })
	e.must(m.EnableGuestRequest(nil))
	if result := e.target.Guest.Requests(e.T, 1); result != -int(syscall.EPERM) || events.Load() != 0 {
		e.Errorf("a process that may not: result %d, %d events", result, events.Load())
	}
	e.must(m.EnableGuestRequest(&xen.GuestRequestOptions{Userspace: true}))
	if result := e.target.Guest.Requests(e.T, n); result != 0 || events.Load() != n {
		e.Errorf("synchronous: result %d, %d events of %d", result, events.Load(), n)
	}
	e.must(m.EnableGuestRequest(&xen.GuestRequestOptions{Userspace: true, Async: true}))
	if result := e.target.Guest.Requests(e.T, n); result != 0 {
		e.Errorf("asynchronous: result %d", result)
	}
	e.seen(events, 2*n)
	e.must(m.DisableGuestRequest())
	stop()
	if events.Load() != 2*n {
		e.Errorf("%d events of %d", events.Load(), 2*n)
	}
}

// The hypervisor takes them; what they report is seen when a guest boots.
func msrEvents(e *env) {
	const lstar, spec, eoi = 0xc0000082, 0x48, 0x80b
	m := e.monitor()
	for _, msr := range []uint32{0x40000000, 0x40001fff, 0x2000, 0xbfffffff, 0xc0002000, ^uint32(0), eoi} {
		e.want("MSR", m.EnableMSR(msr, nil), xen.ErrNotSupported)
	}
	for _, msr := range []uint32{lstar, spec, 0x1fff, 0xc0001fff} {
		e.must(m.EnableMSR(msr, nil))
		e.must(m.EnableMSR(msr, &xen.MSROptions{OnChangeOnly: true}))
	}
	e.must(errors.Join(m.DisableMSR(lstar), m.DisableMSR(lstar), m.DisableMSR(0x174)))
	e.must(errors.Join(m.EnableDescriptorAccess(), m.DisableDescriptorAccess()))
}

func vmExitEvents(e *env) {
	const n = 20
	m := e.monitor()
	events, stop := e.count(m, xen.ReasonVMExit, func(r *xen.Request) bool { return r.Flags&xen.FlagVCPUPaused == 0 })
	e.must(m.EnableVMExit())
	e.target.Guest.CPUID(e.T, n) // each is an exit
	e.seen(events, n)
	e.must(m.DisableVMExit())
	stop()
	if events.Load() < n {
		e.Errorf("%d events, want %d at least", events.Load(), n)
	}
}
