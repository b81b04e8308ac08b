package cr3filter

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Domain is what a [Scope] does to a guest. [xen.Domain] is one.
type Domain interface {
	breakpoint.ViewDomain
	Registers(v xen.VCPU) (*xen.Registers, error)
}

// Events is what a [Scope] needs of a [xen.Monitor].
type Events interface {
	Monitor
	EnableSoftwareBreakpoint() error
	EnableSingleStep() error
}

// Guest is a monitored guest. The scope sets the handlers of Loop for software
// breakpoints, accesses to memory, single steps and writes of CR3.
type Guest struct {
	Domain  Domain
	Monitor Events
	Frames  vmi.FrameMapper
	Kernel  *linux.Kernel
	Loop    *vmi.Loop
}

// Process names processes, by one of its fields. The zero value is all of them,
// the guest's kernel threads included.
type Process struct {
	PID int32
	// Comm is the name of those that have it when the scope starts, and of those
	// that execute a program of that name later. One that executes another
	// program is left after its next hit, so that it can be the return from
	// execve.
	Comm string
	// Root is the root of the process's page tables, with any PCID.
	Root vmi.CR3
}

func (p Process) String() string {
	switch {
	case p.PID != 0:
		return fmt.Sprintf("process %d", p.PID)
	case p.Comm != "":
		return fmt.Sprintf("processes named %s", p.Comm)
	case p.Root != 0:
		return fmt.Sprintf("the process with root %#x", uint64(p.Root))
	}
	return "all processes"
}

// ScopeOptions configure a [Scope]; nil means the zero value.
type ScopeOptions struct {
	// Follow takes in the processes that those of the scope fork. By name they
	// are always taken in, since they inherit it. See ScopeStats.Unfollowed for
	// those that there is no room for.
	Follow bool
	// Mechanisms are those that may be used, the first that there is; nil is all.
	// All processes together are [EveryHit].
	Mechanisms []Mechanism
	// AllWrites and NoTargetList are as in [Config].
	AllWrites, NoTargetList bool
	// NoViews has the breakpoints in the guest's own frames, also where altp2m
	// could have them in a view.
	NoViews bool
	// Strategy forces where breakpoints are and how vCPUs get past them.
	Strategy breakpoint.Strategy
}

// Handler is called for each execution of a scope's breakpoint by thread t of
// its processes, as a [breakpoint.Handler] is.
type Handler func(r *xen.Request, t linux.Task) xen.Response

// Scope has breakpoints in place while a vCPU runs certain processes, from their
// start to their end, and passes on the hits of these processes only: a hit is
// attributed by the thread that the kernel runs, never by the page tables, which
// kernel threads borrow.
//
// The roots of the processes are kept up to date by few breakpoints in the
// kernel, counted apart, where it executes programs, makes processes and ends
// them. A root is dropped while it is still loaded, before the kernel could use
// its frame again. With the breakpoints in place for these processes only, the
// others never run into them; but for names, of which every execution of a
// program has to be seen.
//
// Without altp2m the breakpoints are armed while any vCPU runs one of the
// processes. Hits of others on the other vCPUs meanwhile are counted and dropped.
type Scope struct {
	guest     Guest
	process   Process
	opts      ScopeOptions
	mechanism Mechanism
	gate      gate
	filter    atomic.Pointer[Filter] // nil until Start, and for EveryHit
	life      lifecycle

	mu     sync.Mutex
	vcpus  int
	points map[vmi.VirtAddr]*Point
	begun  bool
	closed bool
	failed error        // in a handler, for want of a better place
	resp   xen.Response // to the event that is handled: in a place that costs no allocation

	hits, foreign, unknown, hooks, unfollowed atomic.Uint64
}

// ScopeStats counts hits and CR3 writes.
type ScopeStats struct {
	CR3 Stats // zero for EveryHit
	// Hits are those of the scope's processes on the user's breakpoints, Hooks
	// the events that kept the set of processes.
	Hits, Hooks uint64
	// Foreign are the hits of other processes and kernel threads, Unknown those
	// whose thread could not be told.
	Foreign, Unknown uint64
	// Unfollowed are the processes that were to be in the scope and are not, for
	// want of room (Xen's filter has 256 roots) or because the guest's memory could
	// not be read. [Scope.Close] returns why.
	Unfollowed  uint64
	Breakpoints breakpoint.Stats
}

// Point is one address with a breakpoint of a scope.
type Point struct {
	scope   *Scope
	pin     *pin
	always  bool // also for vCPUs outside
	actions atomic.Pointer[actions]
}

// actions is what a hit does. It is replaced as a whole, since hits may come
// meanwhile.
type actions struct {
	handlers []Handler
	hook     func(r *xen.Request, t linux.Task, resp *xen.Response)
}

// ErrNoProcess says that the guest has no such process.
var ErrNoProcess = errors.New("no such process")

// OpenScope makes a scope, whose events are to be served from now on. Nothing
// happens in the guest before [Scope.Insert] and [Scope.Start]; a loop serves one
// scope, and none after an error. The caller closes the scope before the
// monitor. The error matches [ErrNoProcess] for a process id
// or root that the guest does not have; names may have their processes later.
func OpenScope(g Guest, p Process, o *ScopeOptions) (_ *Scope, err error) {
	if o == nil {
		o = &ScopeOptions{}
	}
	s := &Scope{guest: g, process: p, opts: *o, points: map[vmi.VirtAddr]*Point{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("scope of %v: %w", p, err)
		}
	}()
	info, err := g.Domain.Info()
	if err != nil {
		return nil, err
	}
	s.vcpus = int(info.MaxVCPU) + 1
	if s.mechanism, err = s.choose(); err != nil {
		return nil, err
	}
	if err := s.life.open(s); err != nil {
		return nil, err
	}
	if s.gate, err = s.newGate(); err != nil {
		return nil, err
	}
	err = errors.Join(
		g.Loop.OnSoftwareBreakpoint(s.gate.handle),
		g.Loop.OnMemAccess(s.gate.access),
		g.Loop.OnSingleStep(s.gate.step),
		g.Loop.OnCtrlReg(xen.CR3, s.ctrlReg))
	if err == nil {
		err = g.Monitor.EnableSoftwareBreakpoint()
	}
	if err != nil {
		return nil, errors.Join(err, s.gate.close())
	}
	return s, nil
}

func (s *Scope) choose() (Mechanism, error) {
	order := s.opts.Mechanisms
	if len(order) == 0 {
		order = mechanisms
	}
	if s.process == (Process{}) {
		order = []Mechanism{EveryHit}
	}
	m, _, err := choose(s.guest.Monitor, order)
	return m, err
}

func (s *Scope) newGate() (gate, error) {
	if !s.opts.NoViews && s.opts.Strategy != breakpoint.PatchedByte {
		views, err := breakpoint.OpenViews(s.guest.Domain, s.guest.Frames, &breakpoint.ViewsOptions{Strategy: s.opts.Strategy})
		switch {
		case err == nil:
			g, err := s.newViewGate(views)
			if err != nil {
				return nil, errors.Join(err, views.Close())
			}
			return g, nil
		case !errors.Is(err, xen.ErrNotSupported), s.opts.Strategy != breakpoint.Automatic:
			return nil, err
		}
	}
	return newByteGate(s.guest.Frames, s.guest.Domain, s.vcpus, s.mechanism == EveryHit), nil
}

func (s *Scope) newViewGate(views *breakpoint.Views) (gate, error) {
	if err := s.guest.Monitor.EnableSingleStep(); err != nil {
		return nil, err
	}
	return newViewGate(views, s.guest.Domain, s.process.Comm != "")
}

// Mechanism returns how processes are told apart.
func (s *Scope) Mechanism() Mechanism { return s.mechanism }

// TargetList reports whether the processor's CR3-target list is in use.
func (s *Scope) TargetList() bool {
	f := s.filter.Load()
	return f != nil && f.TargetList()
}

// Placement says in words where the breakpoints are: "altp2m view" or "patched
// byte".
func (s *Scope) Placement() string { return s.gate.String() }

// Insert places a breakpoint on the kernel's instruction at va. With [EveryHit]
// and no views its handler may be called from now on. Several handlers
// at one address are called one after the other; the answer is that of the last
// one that wants more than to go on. Errors are those of
// [breakpoint.Engine.Insert], but for [breakpoint.ErrExists].
func (s *Scope) Insert(va vmi.VirtAddr, h Handler) (*Point, error) {
	return s.insert(va, false, func(a *actions) { a.handlers = append(slices.Clip(a.handlers), h) })
}

func (s *Scope) insert(va vmi.VirtAddr, always bool, set func(*actions)) (*Point, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("breakpoint at %v: %w", va, os.ErrClosed)
	}
	var a actions
	if p := s.points[va]; p != nil {
		if always && !p.always {
			return nil, fmt.Errorf("breakpoint at %v: %w, and the scope needs one for all processes", va, breakpoint.ErrExists)
		}
		a = *p.actions.Load()
		set(&a)
		p.actions.Store(&a)
		return p, nil
	}
	p := &Point{scope: s, always: always}
	set(&a)
	p.actions.Store(&a)
	var err error
	p.pin, err = s.gate.insert(s.guest.Kernel.AddressSpace(), va, func(r *xen.Request) xen.Response { return s.hit(p, r) }, always)
	if err != nil {
		return nil, err
	}
	s.points[va] = p
	return p, nil
}

// Disarm takes the breakpoint away for the time being, at the cost of a store;
// Arm puts it back. They are for handlers, in guests of one vCPU, see
// [breakpoint.Breakpoint.Disarm]. Both are idempotent.
func (p *Point) Disarm() { _ = p.scope.gate.want(p.pin, false) } // cannot fail

// Arm puts a disarmed breakpoint back.
func (p *Point) Arm() error { return p.scope.gate.want(p.pin, true) }

// Start has the scope's processes run into its breakpoints from now on. Events
// must be served, and all breakpoints inserted. It is called once; after an error
// the scope is to be closed.
func (s *Scope) Start() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("scope of %v: %w", s.process, err)
		}
	}()
	s.mu.Lock()
	again := s.begun || s.closed
	s.begun = true
	s.mu.Unlock()
	if again {
		return fmt.Errorf("it was started or closed: %w", os.ErrClosed)
	}
	if err := s.life.insertHooks(); err != nil {
		return err
	}
	if s.mechanism != EveryHit {
		c := Linux(s.guest.Kernel.KPTI())
		c.Members, c.Mechanisms = true, []Mechanism{s.mechanism}
		c.AllWrites, c.NoTargetList = s.opts.AllWrites, s.opts.NoTargetList
		f, err := Open(s.guest.Monitor, c, s.crossed)
		if err != nil {
			return err
		}
		s.filter.Store(f)
	}
	if err := s.guest.Domain.Pause(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gone(s.guest.Domain.Unpause())) }()
	// What the ring holds already is handled after both, or before.
	s.mu.Lock()
	defer s.mu.Unlock()
	inside, err := s.life.start()
	if err != nil {
		return err
	}
	return s.gate.start(inside)
}

// ctrlReg handles a write of CR3.
func (s *Scope) ctrlReg(r *xen.Request) xen.Response {
	if f := s.filter.Load(); f != nil {
		s.life.regs = &r.Regs
		return f.Handle(r)
	}
	return xen.Response{} // nothing is watched yet
}

// crossed handles a vCPU's entering or leaving the watched roots.
func (s *Scope) crossed(w Switch) xen.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resp = xen.Response{}
	in, err := s.life.switched(w)
	s.fail(err)
	if in {
		s.fail(s.gate.enter(w.VCPU, &s.resp))
	} else {
		s.fail(s.gate.leave(w.VCPU, &s.resp))
	}
	return s.resp
}

// fail keeps the first error of a handler. The caller holds mu.
func (s *Scope) fail(err error) {
	if err != nil && s.failed == nil {
		s.failed = err
	}
}

// hit handles a breakpoint.
func (s *Scope) hit(p *Point, r *xen.Request) xen.Response {
	var resp xen.Response
	t, err := s.guest.Kernel.CurrentTask(&r.Regs)
	if err != nil {
		s.unknown.Add(1)
		return resp
	}
	tgid, err := t.TGID()
	if err != nil {
		s.unknown.Add(1)
		return resp
	}
	mine, leaving := s.life.has(tgid)
	do := p.actions.Load()
	switch {
	case mine && len(do.handlers) > 0:
		s.hits.Add(1)
		for _, h := range do.handlers {
			if a := h(r, t); a != (xen.Response{}) {
				resp = a
			}
		}
	case !mine && do.hook == nil:
		s.foreign.Add(1)
	}
	if do.hook != nil {
		s.hooks.Add(1)
	}
	f := s.filter.Load()
	stray := !mine && f != nil && !f.Watched(vmi.CR3(r.Regs.CR3)) // it came in without reason
	if do.hook == nil && !leaving && !stray {
		return resp
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resp = resp
	switch {
	case do.hook != nil:
		do.hook(r, t, &s.resp)
	case leaving:
		s.fail(s.life.remove(tgid, r.VCPU, &s.resp))
	case stray:
		s.fail(s.gate.leave(r.VCPU, &s.resp))
	}
	return s.resp
}

// Stats returns the counts so far, also after Close.
func (s *Scope) Stats() (ScopeStats, error) {
	st := ScopeStats{
		Hits: s.hits.Load(), Foreign: s.foreign.Load(), Unknown: s.unknown.Load(), Hooks: s.hooks.Load(),
		Unfollowed: s.unfollowed.Load(), Breakpoints: s.gate.stats(),
	}
	f := s.filter.Load()
	if f == nil {
		return st, nil
	}
	var err error
	st.CR3, err = f.Stats()
	return st, err
}

// Processes returns the ids of the processes that are in the scope now.
func (s *Scope) Processes() []int32 { return s.life.list() }

// Close takes the breakpoints away and stops watching, with the guest paused for
// the moment. It is to be called when no event is being handled any more, and
// before the monitor closes. It goes on after errors, returns also what went
// wrong in handlers, and is idempotent.
func (s *Scope) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	// While it runs: a vCPU may be on a single step.
	errs := []error{s.failed, gone(s.gate.quit())}
	// A guest that cannot be paused is restored all the same.
	paused := s.guest.Domain.Pause()
	errs = append(errs, gone(paused), s.gate.close())
	if f := s.filter.Load(); f != nil {
		errs = append(errs, f.Close())
	}
	if paused == nil {
		errs = append(errs, gone(s.guest.Domain.Unpause()))
	}
	return errors.Join(errs...)
}
