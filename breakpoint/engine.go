package breakpoint

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// ErrExists reports a second breakpoint at one address.
var ErrExists = errors.New("address has a breakpoint")

// Handler is called for each execution of a breakpoint's instruction, before
// it takes effect: r.Regs.RIP is its address. An answer that neither acts nor
// steps, such as the zero Response, steps over it; any other answer is taken as
// it is. Rules of [xen.Handler] apply.
type Handler func(r *xen.Request) xen.Response

// Domain is what the engine does to a guest. [xen.Domain] is one.
type Domain interface {
	// InjectBreakpoint gives the guest an int3 of its own back.
	InjectBreakpoint(v xen.VCPU, insnLength uint8) error
	// The guest stands still while its instructions change.
	Pause() error
	Unpause() error
}

// Engine owns the breakpoints of one guest. Its Handle method answers the
// guest's software breakpoint events; all other methods may be called from any
// goroutine, handlers included.
type Engine struct {
	frames vmi.FrameMapper
	dom    Domain
	views  *Views // nil if breakpoints are in the guest's own frames
	view   xen.View

	armed  atomic.Pointer[map[vmi.PhysAddr]*Breakpoint]
	mapped atomic.Pointer[map[xen.GFN]*frame]

	mu     sync.Mutex // serialises changes; Handle takes no lock
	closed bool

	hits, stale, foreign, overwritten, refreshed, writes atomic.Uint64
}

// Stats counts what an [Engine] saw.
type Stats struct {
	// Hits is the number of events for breakpoints in place.
	Hits uint64
	// Stale is the number of events for breakpoints removed meanwhile.
	Stale uint64
	// Foreign is the number of the guest's own int3s, given back to it.
	Foreign uint64
	// Overwritten is the number of breakpoints that the guest patched over.
	Overwritten uint64
	// Refreshed is the number of frames copied again because the guest changed
	// its own, see [Engine.Refresh].
	Refreshed uint64
	// Writes is the number of the guest's writes to such frames in the view.
	Writes uint64
}

// Breakpoint is one patched instruction.
type Breakpoint struct {
	engine  *Engine
	addr    vmi.VirtAddr
	phys    vmi.PhysAddr
	handler Handler
	insn    [16]byte // the original instruction, padded with NOPs
	skip    uint64   // its length if it does nothing, else 0
	inPlace bool     // the int3 is; guarded by engine.mu
}

// New returns an engine without breakpoints, which will be in the guest's own
// frames, patched through frames: each vCPU runs into them. [Views.NewEngine]
// returns one whose breakpoints are in a view.
func New(frames vmi.FrameMapper, dom Domain) *Engine {
	e := &Engine{frames: frames, dom: dom}
	e.armed.Store(&map[vmi.PhysAddr]*Breakpoint{})
	e.mapped.Store(&map[xen.GFN]*frame{})
	return e
}

// Insert places a breakpoint on the instruction at va, as space maps it now.
// Events must already be served by Handle: the first hit may come before
// Insert returns. The guest is paused for the moment. Errors wrap
// [ErrInstruction] if the instruction cannot be stepped over, [ErrExists] if the
// address has a breakpoint.
func (e *Engine) Insert(space vmi.AddressSpace, va vmi.VirtAddr, h Handler) (*Breakpoint, error) {
	return e.insertNew(space, va, h, true)
}

// InsertDisarmed is Insert of a breakpoint that [Breakpoint.Arm] is to put in
// place.
func (e *Engine) InsertDisarmed(space vmi.AddressSpace, va vmi.VirtAddr, h Handler) (*Breakpoint, error) {
	return e.insertNew(space, va, h, false)
}

func (e *Engine) insertNew(space vmi.AddressSpace, va vmi.VirtAddr, h Handler, armed bool) (*Breakpoint, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("breakpoint at %v: %w", va, os.ErrClosed)
	}
	b, err := e.insert(space, va, h)
	if err == nil && armed {
		f := (*e.mapped.Load())[b.phys.GFN()]
		if err = e.paused(func() { b.inPlace = f.arm(b.phys.Offset()) }); err != nil {
			e.remove(b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("breakpoint at %v: %w", va, err)
	}
	return b, nil
}

func (e *Engine) insert(space vmi.AddressSpace, va vmi.VirtAddr, h Handler) (*Breakpoint, error) {
	phys, err := space.Translate(va)
	if err != nil {
		return nil, err
	}
	if (*e.armed.Load())[phys] != nil {
		return nil, ErrExists
	}
	b := &Breakpoint{engine: e, addr: va, phys: phys, handler: h}
	if err := e.original(space, b); err != nil {
		return nil, err
	}
	f, err := e.frame(phys.GFN())
	if err != nil {
		return nil, err
	}
	// Known before it is executed.
	armed := maps.Clone(*e.armed.Load())
	armed[phys] = b
	e.armed.Store(&armed)
	f.original[phys.Offset()] = f.bytes[phys.Offset()]
	return b, nil
}

// paused runs change while the guest stands still. A processor needs no pause
// for the change of one byte, but an emulator that keeps translated code, as
// QEMU does, may go on with the old one. change runs in any case: restoring
// must not fail.
func (e *Engine) paused(change func()) error {
	err := e.dom.Pause()
	change()
	if errors.Is(err, xen.ErrNoDomain) {
		return nil // nobody is left to see the change
	}
	if err != nil {
		return err
	}
	return e.dom.Unpause()
}

// original reads b's instruction as it is without breakpoints.
func (e *Engine) original(space vmi.AddressSpace, b *Breakpoint) error {
	var code [maxInsn]byte
	n := 0
	for n < len(code) {
		at := b.addr + vmi.VirtAddr(n)
		part := code[n:min(len(code), n+xen.PageSize-int(at%xen.PageSize))]
		phys, err := space.Translate(at)
		if err == nil {
			_, err = space.Read(at, part)
		}
		if err != nil {
			if n > 0 {
				break // the instruction may end before the next page
			}
			return err
		}
		if f := (*e.mapped.Load())[phys.GFN()]; f != nil {
			f.undo(part, phys.Offset())
		}
		n += len(part)
	}
	length, idle, err := instruction(code[:n])
	if err != nil {
		return err
	}
	if idle {
		b.skip = uint64(length)
	}
	for i := range b.insn {
		b.insn[i] = 0x90
	}
	copy(b.insn[:], code[:length])
	return nil
}

func (e *Engine) frame(gfn xen.GFN) (*frame, error) {
	if f := (*e.mapped.Load())[gfn]; f != nil {
		return f, nil
	}
	var f *frame
	var err error
	if e.views != nil {
		f, err = e.views.shadow(e.view, gfn)
	} else {
		f, err = mapFrame(e.frames, gfn, true)
	}
	if err != nil {
		return nil, err
	}
	mapped := maps.Clone(*e.mapped.Load())
	mapped[gfn] = f
	e.mapped.Store(&mapped)
	return f, nil
}

// Addr returns the breakpoint's virtual address.
func (b *Breakpoint) Addr() vmi.VirtAddr { return b.addr }

// Remove puts the original byte back, also if it returns an error because the
// guest could not be paused for it. Events already on their way are answered so
// that the vCPU executes the original instruction. It is idempotent.
func (b *Breakpoint) Remove() error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.paused(func() { e.remove(b) })
}

func (e *Engine) remove(b *Breakpoint) {
	if (*e.armed.Load())[b.phys] != b {
		return
	}
	e.disarm(b)
	delete((*e.mapped.Load())[b.phys.GFN()].original, b.phys.Offset())
	armed := maps.Clone(*e.armed.Load())
	delete(armed, b.phys)
	e.armed.Store(&armed)
}

// Disarm takes the int3 away but keeps the breakpoint, at the cost of one
// store; Arm puts it back. A breakpoint that is wanted only at times costs the
// guest nothing in between. Neither pauses the guest: they are for handlers,
// whose vCPU stands still, in guests of one vCPU. Disarm is idempotent.
func (b *Breakpoint) Disarm() {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.engine.disarm(b)
}

func (e *Engine) disarm(b *Breakpoint) {
	if !b.inPlace {
		return
	}
	b.inPlace = false
	if !(*e.mapped.Load())[b.phys.GFN()].disarm(b.phys.Offset()) {
		e.overwritten.Add(1)
	}
}

// Arm puts the int3 of a disarmed breakpoint back; it is idempotent. It
// returns an error wrapping [ErrInstruction] if the guest has changed the
// instruction meanwhile, [os.ErrClosed] if the breakpoint was removed.
func (b *Breakpoint) Arm() error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if (*e.armed.Load())[b.phys] != b {
		return fmt.Errorf("breakpoint at %v: %w", b.addr, os.ErrClosed)
	}
	if b.inPlace {
		return nil
	}
	if !(*e.mapped.Load())[b.phys.GFN()].arm(b.phys.Offset()) {
		return fmt.Errorf("breakpoint at %v: %w: the guest has changed it", b.addr, ErrInstruction)
	}
	b.inPlace = true
	return nil
}

// Handle answers one software breakpoint event; set it as the handler of a
// [vmi.Loop]. It allocates nothing and issues a hypercall only for an int3 of
// the guest's own, which it gives back.
func (e *Engine) Handle(r *xen.Request) xen.Response {
	phys := vmi.PhysAddr(r.Breakpoint.GFN)<<xen.PageShift | vmi.PhysAddr(r.Regs.RIP%xen.PageSize)
	if b := (*e.armed.Load())[phys]; b != nil && e.sees(r) {
		e.hits.Add(1)
		resp := b.handler(r)
		switch {
		case resp.Action != xen.Continue || resp.Step != xen.NoStep:
		case b.skip != 0: // cheaper than having Xen emulate nothing
			r.Regs.RIP += b.skip
			resp.Action, resp.Regs = xen.SetRegisters, &r.Regs
		default:
			resp.Action, resp.Insn = xen.EmulateInsn, b.insn
		}
		return resp
	}
	if f := (*e.mapped.Load())[r.Breakpoint.GFN]; f != nil && f.seen(e.sees(r))[phys.Offset()] != int3 {
		e.stale.Add(1)
		return xen.Response{} // executes what is there now
	}
	e.foreign.Add(1)
	// Raised at the vCPU's resume. If Xen has no room for it now, resuming at
	// the same int3 brings the event again.
	_ = e.dom.InjectBreakpoint(r.VCPU, uint8(r.Breakpoint.InsnLength))
	return xen.Response{}
}

// sees reports whether the vCPU of a request sees the engine's breakpoints.
func (e *Engine) sees(r *xen.Request) bool { return e.views == nil || r.View == e.view }

// Stats returns the counts so far.
func (e *Engine) Stats() Stats {
	return Stats{
		Hits: e.hits.Load(), Stale: e.stale.Load(),
		Foreign: e.foreign.Load(), Overwritten: e.overwritten.Load(),
		Refreshed: e.refreshed.Load(), Writes: e.writes.Load(),
	}
}

// Close puts every original byte back and releases the frames. It is to be
// called when no event is being handled any more and before the monitor
// closes, which answers the events that are still waiting: their vCPUs then
// find the original instruction. It is idempotent.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	errs := []error{e.paused(func() {
		for _, b := range *e.armed.Load() {
			e.remove(b)
		}
	})}
	for _, f := range *e.mapped.Swap(&map[xen.GFN]*frame{}) {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}
