package xentest_test

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/internal/conformance"
	"github.com/govmi/govmi/xen/xentest"
)

// fakeGuest does what the suite asks for.
type fakeGuest struct{ *xentest.Domain }

func (g fakeGuest) Breakpoints(t *testing.T, n int) {
	rip := uint64(0x401000)
	for range n {
		rip++
		g.trap(t, &xen.Request{
			Reason: xen.ReasonSoftwareBreakpoint, Regs: xen.Registers{RIP: rip},
			Breakpoint: xen.SoftwareBreakpoint{GFN: 3, InsnLength: 1, Type: 6},
		})
		for g.Stepping(0) {
			rip += 3
			g.trap(t, &xen.Request{Reason: xen.ReasonSingleStep, Regs: xen.Registers{RIP: rip}, Step: xen.SingleStep{GFN: 3}})
		}
	}
}

func (g fakeGuest) Switches(t *testing.T, n int) {
	cr3 := uint64(0x1000)
	for range n {
		g.trap(t, &xen.Request{
			Reason: xen.ReasonWriteCtrlReg, Regs: xen.Registers{CR3: cr3},
			Ctrl: xen.CtrlRegWrite{Reg: xen.CR3, Old: cr3, New: cr3 + 0x2000},
		})
		cr3 += 0x2000
	}
}

// CPUID has as many VM exits.
func (g fakeGuest) CPUID(t *testing.T, n int) {
	for i := range n {
		rip := uint64(0x401000 + 2*i)
		regs := xen.Registers{RIP: rip, RAX: 7, RBX: 8}
		if err := g.Send(&xen.Request{Reason: xen.ReasonVMExit, Exit: xen.VMExit{Reason: 10}}); !errors.Is(err, xentest.ErrDisabled) {
			if err != nil {
				g.send(t, &xen.Request{Reason: xen.ReasonVMExit, Exit: xen.VMExit{Reason: 10}})
			}
			continue
		}
		a, err := g.Trap(t.Context(), &xen.Request{Reason: xen.ReasonCPUID, Regs: regs, CPUID: xen.CPUID{InsnLength: 2}})
		if err != nil || a.Action != xen.SetRegisters || a.Regs.RIP != rip+2 || a.Regs.RAX != 7 || a.Regs.RBX != 8 {
			t.Errorf("the guest goes on with %+v, %v", a, err)
		}
	}
}

func (g fakeGuest) Steps(t *testing.T, n int) {
	for range n {
		g.send(t, &xen.Request{Reason: xen.ReasonDebugException, Debug: xen.DebugException{GFN: 3, Type: 3}})
	}
}

func (g fakeGuest) Requests(t *testing.T, n int) int {
	userspace, sync := g.GuestRequests()
	if !userspace {
		return -int(syscall.EPERM)
	}
	for range n {
		if r := (&xen.Request{Reason: xen.ReasonGuestRequest}); sync {
			g.trap(t, r)
		} else {
			g.send(t, r)
		}
	}
	return 0
}

// send has the vCPU run on, unless the ring is full.
func (g fakeGuest) send(t *testing.T, r *xen.Request) {
	for {
		err := g.Send(r)
		if errors.Is(err, xentest.ErrRingFull) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Errorf("the guest: %v", err)
		}
		return
	}
}

func (g fakeGuest) trap(t *testing.T, r *xen.Request) {
	if _, err := g.Trap(t.Context(), r); err != nil && !errors.Is(err, xentest.ErrFiltered) {
		t.Errorf("the guest: %v", err)
	}
}

func TestConformance(t *testing.T) {
	for minor := 14; minor <= 22; minor++ {
		for _, f := range []conformance.Facts{
			{Minor: minor},
			{Minor: minor, CR3Filter: true},
			{Minor: minor, VMX: true},
			{Minor: minor, VMX: true, AltP2M: true},
			{Minor: minor, VMX: true, AltP2M: true, CR3Filter: true},
		} {
			t.Run(fmt.Sprintf("%v, altp2m %t", &f, f.AltP2M), func(t *testing.T) {
				x := xentest.New(&xentest.Config{
					Version: xen.Version{Major: 4, Minor: minor}, Intel: f.VMX, AltP2M: f.AltP2M, CR3Filter: f.CR3Filter,
				})
				t.Cleanup(func() {
					if err := x.Close(); err != nil {
						t.Error(err)
					}
				})
				g := x.AddDomain(&xentest.DomainConfig{ID: 4, Name: "guest", AltP2M: f.AltP2M})
				conformance.Run(t, &conformance.Target{Facts: f, Options: x.Options(), Domain: "guest", Guest: fakeGuest{g}})
			})
		}
	}
}
