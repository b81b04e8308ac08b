package xen

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe" // indices in the shared page, and the typed view of a request

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// errRing says that the shared indices cannot be right. Answering on would
// make Xen run through responses that do not exist.
var errRing = errors.New("the monitor ring is corrupt")

// ring is this side of the vm_event ring page. Every request that is taken is
// answered exactly once before the next can be taken, so the response index
// never passes the request index. One goroutine at a time may use it.
type ring struct {
	page    []byte
	version uint32
	size    uint32 // of an entry

	reqCons uint32
	rspProd uint32
	told    uint32      // rspProd as Xen has been notified of it
	taken   bool        // a request waits for its answer
	steps   atomic.Bool // single-step events are on

	slot [400 / 8]uint64 // private copy of the taken request
}

// newRing prepares the page, which Xen must not know yet: it has to be zero,
// because Xen picks up the indices in it, and it must not be initialised
// again later.
func newRing(page []byte, version uint32) *ring {
	clear(page)
	r := &ring{page: page, version: version, size: uint32(abi.VMEventSize(version))}
	atomic.StoreUint32(r.index(abi.RingReqEvent), 1)
	atomic.StoreUint32(r.index(abi.RingRspEvent), 1)
	return r
}

func (r *ring) index(off int) *uint32 { return hcbuf.Overlay[uint32](r.page[off:]) }

func (r *ring) entry(i uint32) []byte {
	start := abi.RingEntries + i%abi.RingSlots*r.size
	return r.page[start : start+r.size]
}

// pending returns the number of requests that are not taken yet.
func (r *ring) pending() (uint32, error) {
	n := atomic.LoadUint32(r.index(abi.RingReqProd)) - r.reqCons
	if n > abi.RingSlots-(r.reqCons-r.rspProd) {
		return 0, errRing
	}
	return n, nil
}

// take copies the next request, of which there must be one pending, and
// decodes it into req. Also a request that cannot be decoded is taken and
// wants its answer.
func (r *ring) take(req *Request) error {
	if r.taken {
		return errors.New("the last request is not answered")
	}
	copy(r.slotBytes(), r.entry(r.reqCons))
	r.reqCons++
	r.taken = true
	return decodeRequest(r.slotBytes(), r.version, req)
}

func (r *ring) slotBytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&r.slot)), r.size)
}

// plain is the answer that resumes a vCPU as if there had been no event.
var plain Response

// regs are the first registers of the taken request, the same in all versions.
func (r *ring) regs() *abi.RegsHead {
	return hcbuf.Overlay[abi.RegsHead](r.slotBytes()[abi.VMEventData:])
}

var errResponse = errors.New("the handler's response does not fit the request")

// answer writes the response to the taken request. If the response does not
// fit, a plain continue is written instead. It is not Xen's before publish.
func (r *ring) answer(resp *Response) error {
	if !r.taken {
		return errors.New("no request to answer")
	}
	req := hcbuf.Overlay[abi.VMEventHeader](r.slotBytes())
	err := r.check(req, resp)
	if err != nil {
		resp = &plain
	}
	e := r.entry(r.rspProd)
	out := hcbuf.Overlay[abi.VMEventHeader](e)
	// One by one, which is half as much as to assign a whole header.
	out.Version, out.Flags = r.version, req.Flags&abi.FlagVCPUPaused
	out.Reason, out.VCPUID = req.Reason, req.VCPUID
	out.Altp2mIdx, out.U = 0, req.U
	switch resp.Action {
	case Continue:
		r.finish(req, out, e)
	case Emulate:
		out.Flags |= abi.FlagEmulate
	case EmulateInsn:
		out.Flags |= abi.FlagEmulate | abi.FlagSetEmulInsnData
		copy(e[abi.VMEventData:], resp.Insn[:])
	case SetRegisters:
		out.Flags |= abi.FlagSetRegisters
		setGeneral(hcbuf.Overlay[abi.RegsHead](e[abi.VMEventData:]), r.regs(), resp.Regs)
	}
	if resp.Switch {
		out.Flags |= abi.FlagAlternateP2M
		out.Altp2mIdx = uint16(resp.View)
	}
	switch resp.Step {
	case ToggleStep:
		if r.steps.Load() {
			out.Flags |= abi.FlagToggleSingleStep
		}
	case FastStep:
		out.Flags |= abi.FlagFastSingleStep
		out.U = [len(out.U)]byte{}
		hcbuf.Overlay[abi.FastSingleStep](out.U[:]).P2MIdx = uint16(resp.StepView)
	}
	r.rspProd++
	r.taken = false
	return err
}

// finish has a plain continue get behind an instruction that Xen would else
// execute again, for ever.
func (r *ring) finish(req, out *abi.VMEventHeader, e []byte) {
	switch req.Reason {
	case abi.ReasonCPUID:
		// Its result is in the registers: again, it would be the argument.
		regs := hcbuf.Overlay[abi.RegsHead](e[abi.VMEventData:])
		*regs = *r.regs()
		regs.RIP += uint64(hcbuf.Overlay[abi.EventCPUID](req.U[:]).InsnLength)
		out.Flags |= abi.FlagSetRegisters
	case abi.ReasonDescriptorAccess:
		out.Flags |= abi.FlagEmulate
	}
}

// answerOrphan writes a plain continue to a vCPU for a request on a ring that
// is gone. Such answers overtake this ring's requests, so that it is of no use
// afterwards.
func (r *ring) answerOrphan(v VCPU) {
	*hcbuf.Overlay[abi.VMEventHeader](r.entry(r.rspProd)) = abi.VMEventHeader{
		Version: r.version, Flags: abi.FlagVCPUPaused, VCPUID: uint32(v),
	}
	r.rspProd++
}

// check tells why Xen could not do what the response asks for.
func (r *ring) check(req *abi.VMEventHeader, resp *Response) error {
	switch resp.Action {
	case Continue:
	case EmulateInsn:
		if req.Reason != abi.ReasonSoftwareBreakpoint {
			return fmt.Errorf("%w: EmulateInsn for reason %d", errResponse, req.Reason)
		}
	case Emulate:
		if req.Reason != abi.ReasonMemAccess && req.Reason != abi.ReasonDescriptorAccess {
			return fmt.Errorf("%w: Emulate for reason %d", errResponse, req.Reason)
		}
	case SetRegisters:
		if resp.Regs == nil {
			return fmt.Errorf("%w: SetRegisters without registers", errResponse)
		}
		if err := r.checkRIP(req, resp.Regs.RIP); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: action %d", errResponse, resp.Action)
	}
	switch resp.Step {
	case NoStep:
		return nil
	case ToggleStep:
	case FastStep:
		if resp.Action == EmulateInsn || resp.Action == Emulate {
			return fmt.Errorf("%w: FastStep and emulation", errResponse)
		}
	default:
		return fmt.Errorf("%w: step %d", errResponse, resp.Step)
	}
	if !r.steps.Load() && !staleStep(req, resp) {
		return fmt.Errorf("%w: a step without EnableSingleStep", errResponse)
	}
	return nil
}

// checkRIP tells why the vCPU cannot go on at rip.
func (r *ring) checkRIP(req *abi.VMEventHeader, rip uint64) error {
	at := r.regs()
	bits := 48
	if at.CR4&cr4LA57 != 0 {
		bits = 57
	}
	if upper := int64(rip) >> (bits - 1); upper != 0 && upper != -1 {
		return fmt.Errorf("%w: no processor enters a guest at %#x", errResponse, rip)
	}
	switch req.Reason {
	case abi.ReasonWriteCtrlReg, abi.ReasonMovToMSR, abi.ReasonGuestRequest:
		// Xen has gone on behind it already.
		if rip == at.RIP {
			return fmt.Errorf("%w: the instruction at %#x would be executed again, for ever", errResponse, rip)
		}
	}
	return nil
}

// cr4LA57 is the bit of CR4 for addresses of 57 bits.
const cr4LA57 = 1 << 12

// staleStep says that stepping was turned off for all vCPUs while the request
// was on its way: what the response wants turned off is off, and a toggle
// would turn it on.
func staleStep(req *abi.VMEventHeader, resp *Response) bool {
	return req.Reason == abi.ReasonSingleStep && resp.Step == ToggleStep
}

// publish hands the answers written so far to Xen and reports whether it has
// to be notified of some; notified says that it was.
func (r *ring) publish() bool {
	if r.told == r.rspProd {
		return false
	}
	atomic.StoreUint32(r.index(abi.RingRspProd), r.rspProd)
	return true
}

func (r *ring) notified() { r.told = r.rspProd }
