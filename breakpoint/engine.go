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

// ErrExists reports an address at which there cannot be another breakpoint.
var ErrExists = errors.New("address has a breakpoint")

// Handler is called for each execution of a breakpoint's instruction, before
// it takes effect: r.Regs.RIP is its address. An answer that neither acts nor
// steps, such as the zero Response, steps over it; any other answer is taken as
// it is. A view that it switches to is that after the step. Rules of [xen.Handler]
// apply.
type Handler func(r *xen.Request) xen.Response

// Domain is what the engine does to a guest. [xen.Domain] is one. If it is a
// [Recorder] as well, the engine tells it what it patches.
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
	how    Strategy
	views  *Views // nil if breakpoints are in the guest's own frames
	view   xen.View
	owned  bool // the views are the engine's own, see Open

	sites  atomic.Pointer[map[vmi.PhysAddr]*site]
	mapped atomic.Pointer[map[xen.GFN]*frame]

	mu     sync.Mutex // serialises changes; Handle takes it for one-shots only
	closed bool
	// placing is held, after mu, while a site's int3 and its inPlace change, with no
	// hypercall in between.
	placing sync.Mutex
	strays  atomic.Pointer[[]*Stray]

	hits, stale, foreign, repaired, overwritten, refreshed, writes, reads atomic.Uint64
}

// Stats counts what an [Engine] saw.
type Stats struct {
	// Hits is the number of events for breakpoints in place.
	Hits uint64
	// Stale is the number of events for breakpoints removed meanwhile.
	Stale uint64
	// Foreign is the number of the guest's own int3s, given back to it.
	Foreign uint64
	// Repaired is the number of copies of the engine's own int3s that were put right,
	// see [Engine.Repair].
	Repaired uint64
	// Overwritten is the number of breakpoints that the guest patched over.
	Overwritten uint64
	// Refreshed is the number of frames copied again because the guest changed
	// its own, see [Engine.Refresh].
	Refreshed uint64
	// Writes is the number of the guest's writes to such frames in the view, and
	// Reads that of its reads.
	Writes, Reads uint64
}

// Breakpoint is a caller's interest in one instruction. Several at one address
// share its int3, which is in place while one of them is armed; the handlers run
// in the order in which they were armed.
type Breakpoint struct {
	engine  *Engine
	site    *site
	addr    vmi.VirtAddr
	first   byte
	handler Handler
	when    Condition
	oneShot bool
	alone   []*Breakpoint // only itself

	fired        atomic.Bool
	hits, passed atomic.Uint64

	armed, removed bool // guarded by engine.mu
}

// InsertOptions configure [Engine.InsertWith]; nil means the zero value.
type InsertOptions struct {
	// When, if set, says which hits are the handler's; the others go on as if
	// there were no handler.
	When Condition
	// OneShot disarms the breakpoint at its first hit, before its handler, which
	// may arm it again: the handler is called once, however many vCPUs are on
	// their way.
	OneShot bool
	// Disarmed leaves it to [Breakpoint.Arm] to put the breakpoint in place.
	Disarmed bool
}

// New returns an engine without breakpoints, which will be in the guest's own
// frames, patched through frames: each vCPU runs into them. [Views.NewEngine]
// returns one whose breakpoints are in a view.
func New(frames vmi.FrameMapper, dom Domain) *Engine {
	e := &Engine{frames: frames, dom: dom, how: PatchedByte}
	e.sites.Store(&map[vmi.PhysAddr]*site{})
	e.mapped.Store(&map[xen.GFN]*frame{})
	e.strays.Store(&[]*Stray{})
	return e
}

// Strategy returns where the engine's breakpoints are and how vCPUs get past
// them.
func (e *Engine) Strategy() Strategy { return e.how }

// Probes is [Views.Probes] of the engine's views, and 0 without.
func (e *Engine) Probes() uint64 {
	if e.views == nil {
		return 0
	}
	return e.views.Probes()
}

// Insert places a breakpoint on the instruction at va, as space maps it now.
// Events must already be served by Handle: the first hit may come before
// Insert returns. The guest is paused for the moment. Errors wrap
// [ErrInstruction] if the instruction cannot be stepped over.
func (e *Engine) Insert(space vmi.AddressSpace, va vmi.VirtAddr, h Handler) (*Breakpoint, error) {
	return e.InsertWith(space, va, h, nil)
}

// InsertDisarmed is Insert of a breakpoint that [Breakpoint.Arm] is to put in
// place.
func (e *Engine) InsertDisarmed(space vmi.AddressSpace, va vmi.VirtAddr, h Handler) (*Breakpoint, error) {
	return e.InsertWith(space, va, h, &InsertOptions{Disarmed: true})
}

// InsertWith is Insert with options.
func (e *Engine) InsertWith(space vmi.AddressSpace, va vmi.VirtAddr, h Handler, o *InsertOptions) (*Breakpoint, error) {
	if o == nil {
		o = &InsertOptions{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("breakpoint at %v: %w", va, os.ErrClosed)
	}
	s, err := e.site(space, va)
	if err != nil {
		return nil, fmt.Errorf("breakpoint at %v: %w", va, err)
	}
	b := &Breakpoint{engine: e, site: s, addr: va, first: s.frame.original[s.phys.Offset()], handler: h, when: o.When, oneShot: o.OneShot}
	b.alone = []*Breakpoint{b}
	s.users++
	if o.Disarmed {
		return b, nil
	}
	if s.inPlace.Load() {
		s.arm(b)
		return b, nil
	}
	var refused error
	err = e.paused(func() { refused = e.arm(b) })
	if err = errors.Join(refused, err); err != nil {
		e.remove(b)
		return nil, fmt.Errorf("breakpoint at %v: %w", va, err)
	}
	return b, nil
}

// site returns the instruction at va, ready for the first of its breakpoints.
func (e *Engine) site(space vmi.AddressSpace, va vmi.VirtAddr) (*site, error) {
	phys, err := space.Translate(va)
	if err != nil {
		return nil, err
	}
	if s := (*e.sites.Load())[phys]; s != nil {
		return s, nil
	}
	b, err := e.original(space, va)
	if err != nil {
		return nil, err
	}
	c, err := newCode(b, e.how)
	if err != nil {
		return nil, err
	}
	f, err := e.frame(phys.GFN())
	if err != nil {
		return nil, err
	}
	if err := e.patching(phys, b[:c.length]); err != nil {
		return nil, err
	}
	s := &site{phys: phys, frame: f}
	s.code.Store(c)
	s.told.Store(new([]*Breakpoint))
	// Known before it is executed.
	sites := maps.Clone(*e.sites.Load())
	sites[phys] = s
	e.sites.Store(&sites)
	f.original[phys.Offset()] = b[0]
	return s, nil
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

// original reads the instruction at va as it is without breakpoints.
func (e *Engine) original(space vmi.AddressSpace, va vmi.VirtAddr) ([]byte, error) {
	var code [maxInsn]byte
	n := 0
	for n < len(code) {
		at := va + vmi.VirtAddr(n)
		part := code[n:min(len(code), n+xen.PageSize-int(at%xen.PageSize))]
		phys, err := space.Translate(at)
		if err == nil {
			_, err = space.Read(at, part)
		}
		if err != nil {
			if n > 0 {
				break // the instruction may end before the next page
			}
			return nil, err
		}
		if f := (*e.mapped.Load())[phys.GFN()]; f != nil {
			f.undo(part, phys.Offset())
		}
		n += len(part)
	}
	return code[:n], nil
}

func (e *Engine) frame(gfn xen.GFN) (*frame, error) {
	if f := (*e.mapped.Load())[gfn]; f != nil {
		if f.shadow != nil && f.shadow.stale() {
			e.refresh(f)
		}
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

// Hits returns how often the breakpoint's handler was called, and how often its
// condition kept it from that.
func (b *Breakpoint) Hits() (hits, passed uint64) { return b.hits.Load(), b.passed.Load() }

// Remove takes the breakpoint away, and with the last one at the address the
// int3, also if it returns an error because the guest could not be paused for it.
// Events already on their way are answered so that the vCPU executes the original
// instruction. It is idempotent.
func (b *Breakpoint) Remove() error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.removed || e.closed {
		return nil
	}
	if !b.armed || b.site.armed > 1 {
		e.remove(b) // no byte changes
		return nil
	}
	return e.paused(func() { e.remove(b) })
}

func (e *Engine) remove(b *Breakpoint) {
	if b.removed || e.closed {
		return
	}
	b.removed = true
	e.disarm(b)
	s := b.site
	s.forget(b)
	if s.users--; s.users > 0 {
		return
	}
	e.unpatched(s.phys)
	delete(s.frame.original, s.phys.Offset())
	sites := maps.Clone(*e.sites.Load())
	delete(sites, s.phys)
	e.sites.Store(&sites)
}

// Disarm keeps the breakpoint but has it cost the guest nothing; Arm puts it
// back. If it is the only one at its address that is armed, that is one store.
// Neither pauses the guest: they are for handlers, whose vCPU stands still. On a
// processor other vCPUs see the one byte change at once. An event that is on its
// way then still counts. Disarm is idempotent.
func (b *Breakpoint) Disarm() {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.engine.disarm(b)
}

func (e *Engine) disarm(b *Breakpoint) {
	if !b.armed || e.closed {
		return
	}
	s := b.site
	if s.disarm(b); s.armed > 0 || !s.inPlace.Load() {
		return
	}
	e.restore(s)
}

// restore takes the int3 away. What is on its way until then counts as a hit.
func (e *Engine) restore(s *site) {
	e.placing.Lock()
	defer e.placing.Unlock()
	if !s.frame.disarm(s.phys.Offset()) {
		e.overwritten.Add(1)
	}
	s.inPlace.Store(false)
}

// Arm puts a disarmed breakpoint back; it is idempotent. It returns an error
// wrapping [ErrInstruction] if the guest has changed the instruction meanwhile,
// [os.ErrClosed] if the breakpoint was removed.
func (b *Breakpoint) Arm() error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.arm(b); err != nil {
		return fmt.Errorf("breakpoint at %v: %w", b.addr, err)
	}
	return nil
}

func (e *Engine) arm(b *Breakpoint) error {
	s := b.site
	there := s.inPlace.Load()
	switch {
	case b.removed || e.closed:
		return os.ErrClosed
	case b.armed && there:
		return nil
	case !there && !s.frame.armable(s.phys.Offset()):
		return fmt.Errorf("%w: the guest has changed it", ErrInstruction)
	}
	b.fired.Store(false)
	if !b.armed {
		s.arm(b)
	}
	if !there {
		e.placing.Lock()
		s.inPlace.Store(true) // before a vCPU can tell
		s.frame.arm(s.phys.Offset())
		e.placing.Unlock()
	}
	return nil
}

// fire reports whether a one-shot breakpoint's hit is its first, and disarms it
// then.
func (b *Breakpoint) fire() bool {
	if !b.fired.CompareAndSwap(false, true) {
		return false
	}
	b.Disarm()
	return true
}

// Forget is Remove where the frame has become somebody else's: nothing is written to
// it. What is on its way is not a hit any more.
func (b *Breakpoint) Forget() {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.armed && b.site.armed == 1 && !e.closed {
		e.placing.Lock()
		b.site.inPlace.Store(false)
		e.placing.Unlock()
	}
	e.remove(b)
}

// Original returns the first byte of the instruction, which the int3 stands for.
func (b *Breakpoint) Original() byte { return b.first }

// Handle answers one software breakpoint event; set it as the handler of a
// [vmi.Loop]. It allocates nothing and issues a hypercall only for an int3 of
// the guest's own, which it gives back.
func (e *Engine) Handle(r *xen.Request) xen.Response {
	phys := vmi.PhysAddr(r.Breakpoint.GFN)<<xen.PageShift | vmi.PhysAddr(r.Regs.RIP%xen.PageSize)
	s, gone := (*e.sites.Load())[phys], false
	if s == nil || !e.sees(r) || !s.inPlace.Load() {
		s, gone = e.find(r, phys)
	}
	switch {
	case s != nil:
		e.hits.Add(1)
		return e.over(s, r, s.tell(r))
	case gone:
		e.stale.Add(1)
		return xen.Response{} // executes what is there now
	}
	for _, s := range *e.strays.Load() {
		if s.ask(r) {
			return xen.Response{} // executes what is there now
		}
	}
	e.foreign.Add(1)
	// Raised at the vCPU's resume. If Xen has no room for it now, resuming at
	// the same int3 brings the event again.
	_ = e.dom.InjectBreakpoint(r.VCPU, uint8(r.Breakpoint.InsnLength))
	return xen.Response{}
}

// find looks, while no int3 comes or goes, for what is not seen at once to be in place:
// the site of one that is by now, or that is disarmed and was there when the vCPU
// came; or whether the int3 is gone. If neither, it is the guest's own.
func (e *Engine) find(r *xen.Request, phys vmi.PhysAddr) (s *site, gone bool) {
	e.placing.Lock()
	defer e.placing.Unlock()
	if s := (*e.sites.Load())[phys]; s != nil && e.sees(r) {
		if s.inPlace.Load() || s.frame.bytes[phys.Offset()] != int3 {
			return s, false
		}
		return nil, false
	}
	f := (*e.mapped.Load())[r.Breakpoint.GFN]
	return nil, f != nil && f.seen(e.sees(r))[phys.Offset()] != int3
}

// over lets the vCPU get past the instruction, unless the handlers' answer does.
func (e *Engine) over(s *site, r *xen.Request, resp xen.Response) xen.Response {
	if resp.Action != xen.Continue || resp.Step != xen.NoStep {
		return resp
	}
	const trap = 1 << 8 // RFLAGS.TF: a debugger of the guest's waits for the instruction
	switch c := s.code.Load(); {
	case c.way == skip && r.Regs.RFLAGS&trap == 0: // cheaper than having Xen emulate nothing
		r.Regs.RIP += uint64(c.length)
		resp.Action, resp.Regs = xen.SetRegisters, &r.Regs
	case c.way == skip, c.way == emulate:
		resp.Action, resp.Insn = xen.EmulateInsn, c.insn
	default:
		back := resp.View
		if !resp.Switch {
			back = e.views.back(r)
		}
		e.views.step(r.VCPU, c.way, back, &resp)
	}
	return resp
}

// sees reports whether the vCPU of a request sees the engine's breakpoints.
func (e *Engine) sees(r *xen.Request) bool { return e.views == nil || r.View == e.view }

// Stats returns the counts so far.
func (e *Engine) Stats() Stats {
	return Stats{
		Hits: e.hits.Load(), Stale: e.stale.Load(),
		Foreign: e.foreign.Load(), Repaired: e.repaired.Load(), Overwritten: e.overwritten.Load(),
		Refreshed: e.refreshed.Load(), Writes: e.writes.Load(), Reads: e.reads.Load(),
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
	var errs []error
	if e.owned {
		errs = append(errs, gone(e.views.Switch(0)))
	}
	errs = append(errs, e.paused(func() {
		for _, s := range *e.sites.Load() {
			if s.inPlace.Load() {
				e.restore(s)
			}
			e.unpatched(s.phys)
		}
	}))
	e.sites.Store(&map[vmi.PhysAddr]*site{})
	for _, f := range *e.mapped.Swap(&map[xen.GFN]*frame{}) {
		errs = append(errs, f.close())
	}
	if e.owned {
		errs = append(errs, e.views.Close())
	}
	return errors.Join(errs...)
}

// gone drops the error of a domain that does not exist any more.
func gone(err error) error {
	if errors.Is(err, xen.ErrNoDomain) {
		return nil
	}
	return err
}
