package xenfake

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// Event is a request to put on a domain's ring.
type Event struct {
	Reason uint32
	VCPU   uint32
	Async  bool // the vCPU does not wait
	Flags  uint32
	View   uint16
	Regs   abi.RegsV7 // NPTBase and VMTracePos have no place in version 6

	CtrlReg    abi.EventCtrlReg // for abi.ReasonWriteCtrlReg
	Breakpoint abi.EventDebug   // for abi.ReasonSoftwareBreakpoint
	Step       abi.EventSingleStep
	U          [32]byte // for other reasons
}

// Response is an answer that the hypervisor took from the ring.
type Response struct {
	Reason, Flags, VCPU uint32
	View                uint16
	U                   [32]byte
	Insn                [16]byte     // for abi.FlagSetEmulInsnData
	Regs                abi.RegsHead // for abi.FlagSetRegisters
}

// Errors of [Domain.Inject].
var (
	ErrNoRing   = errors.New("fake Xen: the domain is not monitored")
	ErrRingFull = errors.New("fake Xen: the ring is full")
	ErrDisabled = errors.New("fake Xen: the event is not enabled")
	ErrFiltered = errors.New("fake Xen: the filter drops the event")
)

// ring is Xen's side of the monitor ring.
type ring struct {
	page     []byte
	size     int
	version  uint32
	reqProd  uint32
	rspCons  uint32
	port     uint32 // remote port, as ENABLE returned it
	bound    *port
	overshot bool // there were more responses than requests
	got      []Response
	answered chan struct{} // if somebody waits: closed when responses arrive
}

const remotePort = 77

func newFakeRing(d *Domain, page []byte) *ring {
	r := &ring{
		page:    page,
		version: d.x.cfg.VMEvent,
		size:    abi.VMEventSize(d.x.cfg.VMEvent),
		port:    remotePort,
	}
	// Xen attaches to the indices that it finds.
	r.reqProd = atomic.LoadUint32(r.index(abi.RingReqProd))
	r.rspCons = atomic.LoadUint32(r.index(abi.RingRspProd))
	if r.reqProd != 0 || r.rspCons != 0 {
		d.x.violate("the ring page was not zero at ENABLE: req_prod %d, rsp_prod %d", r.reqProd, r.rspCons)
	}
	return r
}

func (r *ring) index(off int) *uint32 { return hcbuf.Overlay[uint32](r.page[off:]) }

func (r *ring) entry(i uint32) []byte {
	start := abi.RingEntries + int(i%abi.RingSlots)*r.size
	return r.page[start : start+r.size]
}

// eventOf is the event that a reason belongs to, if it is one without parameters.
var eventOf = map[uint32]uint32{
	abi.ReasonSoftwareBreakpoint: abi.MonitorSoftwareBreakpoint,
	abi.ReasonSingleStep:         abi.MonitorSingleStep,
	abi.ReasonGuestRequest:       abi.MonitorGuestRequest,
	abi.ReasonDebugException:     abi.MonitorDebugException,
	abi.ReasonCPUID:              abi.MonitorCPUID,
	abi.ReasonDescriptorAccess:   abi.MonitorDescAccess,
	abi.ReasonVMExit:             abi.MonitorVMExit,
}

// Inject puts a request on the ring as if the guest had caused it.
func (d *Domain) Inject(ev *Event) error {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.put(ev)
}

func (d *Domain) put(ev *Event) error {
	r := d.ring
	if r == nil {
		return ErrNoRing
	}
	if int(ev.VCPU) >= len(d.waiting) {
		return fmt.Errorf("fake Xen: no vCPU %d", ev.VCPU)
	}
	if r.reqProd-r.rspCons >= abi.RingSlots {
		return ErrRingFull
	}
	switch ev.Reason {
	case abi.ReasonWriteCtrlReg:
		if _, on := d.ctrlRegs[uint8(ev.CtrlReg.Index)]; !on {
			return ErrDisabled
		}
		if f := d.cr3Filter; ev.CtrlReg.Index == 1 && f != nil && !f.pass(ev.CtrlReg.New, ev.CtrlReg.Old) {
			return ErrFiltered
		}
	case abi.ReasonMovToMSR:
		if _, on := d.msrs[uint32(hcbuf.Overlay[abi.EventMSR](ev.U[:]).MSR)]; !on {
			return ErrDisabled
		}
	default:
		if event, ok := eventOf[ev.Reason]; ok && !d.events[event] {
			return ErrDisabled
		}
	}
	e := r.entry(r.reqProd)
	clear(e)
	h := hcbuf.Overlay[abi.VMEventHeader](e)
	*h = abi.VMEventHeader{
		Version: r.version, Flags: ev.Flags, Reason: ev.Reason, VCPUID: ev.VCPU, Altp2mIdx: ev.View, U: ev.U,
	}
	if !ev.Async {
		h.Flags |= abi.FlagVCPUPaused
		d.waiting[ev.VCPU]++
	}
	switch ev.Reason {
	case abi.ReasonWriteCtrlReg:
		*hcbuf.Overlay[abi.EventCtrlReg](h.U[:]) = ev.CtrlReg
	case abi.ReasonSoftwareBreakpoint:
		*hcbuf.Overlay[abi.EventDebug](h.U[:]) = ev.Breakpoint
	case abi.ReasonSingleStep:
		*hcbuf.Overlay[abi.EventSingleStep](h.U[:]) = ev.Step
	}
	data := e[abi.VMEventData:]
	if r.version == abi.VMEventV6 {
		*hcbuf.Overlay[abi.RegsV6](data) = abi.RegsV6{RegsHead: ev.Regs.RegsHead, RegsTail: ev.Regs.RegsTail}
	} else {
		*hcbuf.Overlay[abi.RegsV7](data) = ev.Regs
	}
	r.reqProd++
	atomic.StoreUint32(r.index(abi.RingReqProd), r.reqProd)
	if r.bound != nil {
		r.bound.raise()
	}
	return nil
}

// resume takes the responses that are on the ring. x.mu is held.
func (d *Domain) resume() {
	r := d.ring
	prod := atomic.LoadUint32(r.index(abi.RingRspProd))
	// Recovery answers what a ring that is gone asked for: paused, by RESUME.
	orphans := r.bound == nil && d.pauses > 0
	if n := prod - r.rspCons; orphans && n <= abi.RingSlots && n > r.reqProd-r.rspCons {
		r.overshot = true
	} else if n > r.reqProd-r.rspCons {
		d.x.violate("rsp_prod %d: %d responses to %d requests", prod, n, r.reqProd-r.rspCons)
		return
	}
	for ; r.rspCons != prod; r.rspCons++ {
		e := r.entry(r.rspCons)
		h := *hcbuf.Overlay[abi.VMEventHeader](e)
		if h.Version != r.version {
			d.x.violate("response of version %d", h.Version)
			continue
		}
		if int(h.VCPUID) >= len(d.waiting) {
			d.x.violate("response for vCPU %d", h.VCPUID)
			continue
		}
		if d.waiting[h.VCPUID] > 0 {
			d.follow(&h)
		}
		if h.Flags&abi.FlagVCPUPaused != 0 {
			if orphans && h.Reason == 0 && d.waiting[h.VCPUID] == 0 {
				continue
			}
			if d.waiting[h.VCPUID] == 0 {
				d.x.violate("response unpauses vCPU %d, which does not wait", h.VCPUID)
			} else {
				d.waiting[h.VCPUID]--
			}
		}
		rsp := Response{Reason: h.Reason, Flags: h.Flags, VCPU: h.VCPUID, View: h.Altp2mIdx, U: h.U}
		if h.Flags&abi.FlagSetEmulInsnData != 0 {
			copy(rsp.Insn[:], e[abi.VMEventData:])
		}
		if h.Flags&abi.FlagSetRegisters != 0 {
			rsp.Regs = *hcbuf.Overlay[abi.RegsHead](e[abi.VMEventData:])
		}
		r.got = append(r.got, rsp)
		if r.answered != nil {
			close(r.answered)
			r.answered = nil
		}
	}
}

// Responses returns and forgets the responses that the hypervisor has taken.
func (d *Domain) Responses() []Response {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	if d.ring == nil {
		return nil
	}
	got := d.ring.got
	d.ring.got = nil
	return got
}

// Forget forgets the responses taken so far and keeps their memory, so that
// counts of allocations are the tested code's.
func (d *Domain) Forget() {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.ring.got = d.ring.got[:0]
}

// Trap injects a synchronous event and waits for the answer to it.
func (d *Domain) Trap(ctx context.Context, ev *Event) (Response, error) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	if err := d.put(ev); err != nil {
		return Response{}, err
	}
	r := d.ring
	for {
		for i, rsp := range r.got {
			if rsp.VCPU == ev.VCPU {
				r.got = append(r.got[:i], r.got[i+1:]...)
				return rsp, nil
			}
		}
		if r.answered == nil {
			r.answered = make(chan struct{})
		}
		ch := r.answered
		d.x.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
		}
		d.x.mu.Lock()
		if err := ctx.Err(); err != nil {
			return Response{}, err
		}
	}
}

// Waiting returns how many answers a vCPU waits for.
func (d *Domain) Waiting(vcpu int) int {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.waiting[vcpu]
}

// CorruptRing makes the request index run away.
func (d *Domain) CorruptRing() {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	atomic.StoreUint32(d.ring.index(abi.RingReqProd), d.ring.reqProd+100)
	if d.ring.bound != nil {
		d.ring.bound.raise()
	}
}
