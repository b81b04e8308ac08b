package cr3filter

import (
	"errors"
	"sync"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// gate shows breakpoints to the vCPUs that are inside: that run a process of
// interest. enter, leave and handle are called by the goroutine that serves
// events; all methods may be called while others run.
type gate interface {
	// insert places a breakpoint, with always one for the vCPUs outside too.
	insert(space vmi.AddressSpace, va vmi.VirtAddr, h breakpoint.Handler, always bool) (*pin, error)
	// want takes a breakpoint away for the time being, or puts it back.
	want(p *pin, on bool) error
	// start lets the gate begin with some vCPUs inside, the guest paused.
	start(inside []bool) error
	// enter and leave let one vCPU change sides, by the answer to its event if
	// they can.
	enter(v xen.VCPU, r *xen.Response) error
	leave(v xen.VCPU, r *xen.Response) error
	// handle answers a software breakpoint, access one to memory, step an
	// executed instruction.
	handle(r *xen.Request) xen.Response
	access(r *xen.Request) xen.Response
	step(r *xen.Request) xen.Response
	stats() breakpoint.Stats
	// quit has all vCPUs leave for good. No event is served any more, and the guest
	// runs.
	quit() error
	// close puts everything back as it was. It is idempotent.
	close() error
	String() string
}

// pin is one address: a breakpoint in each set of frames that shows it.
type pin struct {
	bs  []*breakpoint.Breakpoint
	off bool // not wanted for the time being
}

func (p *pin) arm() (err error) {
	for _, b := range p.bs {
		aerr := b.Arm()
		if aerr != nil && !errors.Is(aerr, breakpoint.ErrInstruction) { // the guest's own now: counted
			err = errors.Join(err, aerr)
		}
	}
	return err
}

func (p *pin) disarm() {
	for _, b := range p.bs {
		b.Disarm()
	}
}

// viewGate has the breakpoints in an altp2m view. Changing sides is a part of
// the answer to the event that it is about.
type viewGate struct {
	views  *breakpoint.Views
	inner  *breakpoint.Engine
	outer  *breakpoint.Engine // what vCPUs outside see too; nil without such
	closed bool
}

// newViewGate returns a gate that has breakpoints for all if always is set.
func newViewGate(views *breakpoint.Views, dom Domain, always bool) (*viewGate, error) {
	inner, err := views.NewEngine(dom)
	if err != nil {
		return nil, err
	}
	g := &viewGate{views: views, inner: inner}
	if always {
		if g.outer, err = views.NewEngine(dom); err != nil {
			return nil, errors.Join(err, inner.Close())
		}
	}
	return g, nil
}

func (g *viewGate) String() string { return "altp2m view" }

func (g *viewGate) insert(space vmi.AddressSpace, va vmi.VirtAddr, h breakpoint.Handler, always bool) (*pin, error) {
	b, err := g.inner.Insert(space, va, h)
	if err != nil {
		return nil, err
	}
	p := &pin{bs: []*breakpoint.Breakpoint{b}}
	if !always {
		return p, nil
	}
	if g.outer == nil {
		return nil, errors.Join(errors.ErrUnsupported, b.Remove())
	}
	c, err := g.outer.Insert(space, va, h)
	if err != nil {
		return nil, errors.Join(err, b.Remove())
	}
	p.bs = append(p.bs, c)
	return p, nil
}

func (g *viewGate) want(p *pin, on bool) error {
	if on {
		return p.arm()
	}
	p.disarm()
	return nil
}

// outside is the view of the vCPUs outside.
func (g *viewGate) outside() xen.View {
	if g.outer != nil {
		return g.outer.View()
	}
	return 0
}

func (g *viewGate) start(inside []bool) error {
	// There is no switch of a single vCPU but in the answer to an event. One
	// that is inside without reason leaves when it runs into a breakpoint.
	for _, in := range inside {
		if in {
			return g.views.Switch(g.inner.View())
		}
	}
	if g.outer != nil {
		return g.views.Switch(g.outside())
	}
	return nil
}

func (g *viewGate) enter(_ xen.VCPU, r *xen.Response) error {
	g.inner.Refresh()
	r.Switch, r.View = true, g.inner.View()
	return nil
}

func (g *viewGate) leave(_ xen.VCPU, r *xen.Response) error {
	if g.outer != nil {
		g.outer.Refresh()
	}
	r.Switch, r.View = true, g.outside()
	return nil
}

func (g *viewGate) handle(r *xen.Request) xen.Response {
	if g.outer != nil && r.View == g.outer.View() {
		return g.outer.Handle(r)
	}
	return g.inner.Handle(r)
}

func (g *viewGate) access(r *xen.Request) xen.Response { return g.views.HandleMemAccess(r) }
func (g *viewGate) step(r *xen.Request) xen.Response   { return g.views.HandleSingleStep(r) }

func (g *viewGate) stats() breakpoint.Stats {
	s := g.inner.Stats()
	if g.outer != nil {
		o := g.outer.Stats()
		s.Hits += o.Hits
		s.Stale += o.Stale
		s.Foreign += o.Foreign
		s.Overwritten += o.Overwritten
		s.Refreshed += o.Refreshed
		s.Writes += o.Writes
		s.Reads += o.Reads
	}
	return s
}

func (g *viewGate) quit() error { return g.views.Switch(0) }

func (g *viewGate) close() error {
	if g.closed {
		return nil
	}
	g.closed = true
	errs := []error{gone(g.views.Switch(0)), g.inner.Close()}
	if g.outer != nil {
		errs = append(errs, g.outer.Close())
	}
	return errors.Join(append(errs, g.views.Close())...)
}

// gone drops the error of a domain that does not exist any more.
func gone(err error) error {
	if errors.Is(err, xen.ErrNoDomain) {
		return nil
	}
	return err
}

// byteGate has the breakpoints in the guest's own frames, armed while any vCPU
// is inside. Others run into them too, then.
type byteGate struct {
	engine *breakpoint.Engine
	dom    Domain
	open   bool // all vCPUs are inside, always

	mu     sync.Mutex
	gated  []*pin
	inside []bool
	n      int // vCPUs inside
}

func newByteGate(frames vmi.FrameMapper, dom Domain, vcpus int, open bool) *byteGate {
	return &byteGate{engine: breakpoint.New(frames, dom), dom: dom, open: open, inside: make([]bool, vcpus)}
}

func (g *byteGate) String() string { return "patched byte" }

func (g *byteGate) insert(space vmi.AddressSpace, va vmi.VirtAddr, h breakpoint.Handler, always bool) (*pin, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gated := !always && !g.open
	insert := g.engine.Insert
	if gated && g.n == 0 {
		insert = g.engine.InsertDisarmed // nobody is to run into it
	}
	b, err := insert(space, va, h)
	if err != nil {
		return nil, err
	}
	p := &pin{bs: []*breakpoint.Breakpoint{b}}
	if gated {
		g.gated = append(g.gated, p)
	}
	return p, nil
}

func (g *byteGate) want(p *pin, on bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.off = !on
	if !on {
		p.disarm()
		return nil
	}
	if g.n == 0 && !g.open {
		return nil
	}
	return p.arm()
}

func (g *byteGate) start(inside []bool) error {
	var errs []error
	for v, in := range inside {
		if in && !g.open {
			errs = append(errs, g.enter(xen.VCPU(v), nil))
		}
	}
	return errors.Join(errs...)
}

func (g *byteGate) enter(v xen.VCPU, _ *xen.Response) error { return g.cross(v, true) }
func (g *byteGate) leave(v xen.VCPU, _ *xen.Response) error { return g.cross(v, false) }

func (g *byteGate) cross(v xen.VCPU, in bool) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(v) >= len(g.inside) || g.inside[v] == in {
		return nil
	}
	g.inside[v] = in
	was := g.n > 0
	if in {
		g.n++
	} else {
		g.n--
	}
	if was == (g.n > 0) {
		return nil
	}
	if len(g.inside) > 1 {
		// The other vCPUs run, see [breakpoint.Breakpoint.Arm]. The bytes change
		// even if they could not be stopped.
		perr := g.dom.Pause()
		if perr == nil {
			defer func() { err = errors.Join(err, gone(g.dom.Unpause())) }()
		}
		err = gone(perr)
	}
	for _, p := range g.gated {
		if g.n == 0 {
			p.disarm()
		} else if !p.off {
			if aerr := p.arm(); aerr != nil {
				err = errors.Join(err, aerr)
			}
		}
	}
	return err
}

func (g *byteGate) handle(r *xen.Request) xen.Response { return g.engine.Handle(r) }
func (g *byteGate) access(*xen.Request) xen.Response   { return xen.Response{} }
func (g *byteGate) step(*xen.Request) xen.Response     { return xen.Response{} }
func (g *byteGate) stats() breakpoint.Stats            { return g.engine.Stats() }
func (g *byteGate) quit() error                        { return nil }
func (g *byteGate) close() error                       { return g.engine.Close() }
