// Package user has breakpoints in the code of a process of a Linux guest.
//
// A place is an offset in a file that the process has mapped: a function of a
// library, before the process has touched it, and wherever it maps the library
// next. The guest's page cache has the page already, as a rule, and the breakpoint
// is in a view's copy of that frame. What the process makes its own by writing to
// it, and what the guest has to read from its disk first, is found by watching the
// kernel's function that every page fault ends in: each fault of the guest costs
// two events.
//
// Other processes that share the page run into the breakpoint and on; only hits of
// the chosen one are told. Their memory stays as it is, for which views are needed:
// Intel processors have them. Elsewhere their memory changes, see [Options]. The breakpoints of a process stay through an exec; where
// it gives up a page of its own, they go back to the file's at the next page fault.
//
// What moves a page to another frame without a page fault, as compaction and
// KSM do, is noticed at the next one; until then hits may be missed. So may those of
// another thread that executes a new page in the moment before the fault that brought
// it has ended, in a guest of several vCPUs. When the process ends, its breakpoints
// are released.
package user

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Fault is the kernel's handle_mm_fault: where it begins and by what it ends.
type Fault struct {
	Addr  vmi.VirtAddr
	Exits []breakpoint.Exit
}

// Process has the breakpoints of one process. Its methods may be called from any
// goroutine, but for Close not from handlers.
type Process struct {
	engine *breakpoint.Engine
	kernel *linux.Kernel
	pid    int32
	mine   breakpoint.Condition // in the kernel
	hit    breakpoint.Condition // in the process
	hooks  []*breakpoint.Breakpoint

	// The breakpoints are in frames of the guest's own, see Options.
	patched bool
	stray   *breakpoint.Stray
	current atomic.Pointer[breakpoint.Condition] // the process's page tables are loaded

	mu     sync.Mutex
	task   linux.Task       // one of its threads
	gone   bool             // the process has ended
	space  vmi.AddressSpace // the process's
	points []*Breakpoint
	frames map[xen.GFN]struct{} // that have or had breakpoints
	closed bool
	stats  Stats
}

// Stats counts what following a process took.
type Stats struct {
	// Faults is the number of the guest's page faults, Moves how often a breakpoint
	// was put into another frame, Failed how often that could not be.
	Faults, Moves, Failed uint64
}

// Breakpoint is a place in a file.
type Breakpoint struct {
	p       *Process
	file    *linux.MappedFile
	offset  uint64
	handler breakpoint.Handler

	// Guarded by p.mu.
	addr    vmi.VirtAddr // where the process has it, 0 if it is not known to
	at      *breakpoint.Breakpoint
	gfn     xen.GFN
	cached  bool // gfn is the page cache's
	err     error
	refused xen.GFN      // for the reason in err
	own     vmi.VirtAddr // where the process has gfn, if that is its own
	placed  bool         // it was in some frame, and code is the byte without it
	code    byte
}

// Options configure [Open]; nil means the zero value.
type Options struct {
	// PatchShared lets an engine without views patch the guest's page cache. All
	// processes that have the file share that memory:
	//
	//   - each of them runs into the breakpoints, for an event each time, and whoever
	//     reads the code sees them;
	//   - what the guest copies meanwhile has a copy of them. A process that writes to
	//     the page, by a debugger for one, gets that; it is put right when somebody runs
	//     into it, and at Close in all that processes have mapped. A debugger's own
	//     breakpoint at the same instruction is taken for such a copy;
	//   - a page that the guest writes to its disk, because it changes the file, has
	//     them there, and so has one that it swaps out;
	//   - a monitor that is killed leaves copies behind, whose processes die of them: a
	//     recovery knows the pages that the monitor patched, and no others.
	//
	// A child that runs in the process's memory, between vfork and exec, counts as the
	// process.
	PatchShared bool
}

// Open returns a process without breakpoints. Events are to be served already. The
// error matches [xen.ErrNotSupported] for an engine without views, whose breakpoints
// all processes share and can read, unless the options allow it, and
// [linux.ErrNoTask].
func Open(e *breakpoint.Engine, k *linux.Kernel, f Fault, pid int32, o *Options) (_ *Process, err error) {
	if o == nil {
		o = &Options{}
	}
	patched := !e.Strategy().Views()
	if patched && !o.PatchShared {
		return nil, fmt.Errorf("breakpoints in files that processes share need altp2m views, or PatchShared, and the breakpoints are %s: %w", e.Strategy(), xen.ErrNotSupported)
	}
	t, err := k.TaskByPID(pid)
	if err != nil {
		return nil, err
	}
	p := &Process{engine: e, kernel: k, pid: pid, task: t, mine: breakpoint.InProcess(k, pid), patched: patched, frames: map[xen.GFN]struct{}{}}
	if p.space, err = t.AddressSpace(); err != nil {
		return nil, err
	}
	p.hit = p.mine
	if patched {
		p.load(vmi.CR3(p.space.Root()))
		p.hit = func(r *xen.Request) bool { return (*p.current.Load())(r) }
		p.stray = e.OnStray(p.strayed)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	hook := func(va vmi.VirtAddr, h breakpoint.Handler) error {
		b, err := e.Insert(k.AddressSpace(), va, h)
		if err == nil {
			p.hooks = append(p.hooks, b)
		}
		return err
	}
	if err := hook(f.Addr, p.begins); err != nil {
		return nil, fmt.Errorf("page faults: %w", err)
	}
	for i := range f.Exits {
		x := &f.Exits[i]
		if err := hook(x.Addr, func(r *xen.Request) xen.Response {
			if x.Leaves(&r.Regs) {
				p.ends(r)
			}
			return xen.Response{}
		}); err != nil {
			return nil, fmt.Errorf("ends of page faults: %w", err)
		}
	}
	return p, nil
}

// Insert has h called when the process executes the instruction at an offset in a
// file. If the guest does not have that page in memory, that begins when it has;
// see [Breakpoint.Armed]. The error matches [breakpoint.ErrInstruction].
func (p *Process) Insert(f *linux.MappedFile, offset uint64, h breakpoint.Handler) (*Breakpoint, error) {
	if f.Size < 0 || offset >= uint64(f.Size) {
		return nil, fmt.Errorf("%s: offset %#x is beyond its end", f.Path, offset)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, os.ErrClosed
	}
	b := &Breakpoint{p: p, file: f, offset: offset, handler: h}
	b.addr, _ = f.Addr(offset)
	err := b.follow()
	if b.at == nil && err == nil {
		err = b.cache()
	}
	if err != nil && !errors.Is(err, linux.ErrNotCached) {
		return nil, fmt.Errorf("%s: offset %#x: %w", f.Path, offset, err)
	}
	p.points = append(p.points, b)
	return b, nil
}

// begins learns from a page fault where the process has its files.
func (p *Process) begins(r *xen.Request) xen.Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Faults++
	if !p.look(r) {
		return xen.Response{}
	}
	area := vmi.VirtAddr(r.Regs.RDI)
	var last *linux.MappedFile
	var a linux.Area
	for _, b := range p.points {
		if b.file != last {
			last = b.file
			var ok bool
			var err error
			if a, ok, err = last.Area(area); err != nil || !ok || !p.owns(a.MM) {
				a = linux.Area{}
			}
		}
		if va, ok := a.Addr(b.offset); ok {
			b.addr = va
		}
	}
	return xen.Response{}
}

// look takes over what has become of the process since the last page fault, of which
// r is one of the next, and reports whether it lives.
func (p *Process) look(r *xen.Request) bool {
	if p.gone {
		return false
	}
	pid, err := p.task.TGID()
	threads, aerr := p.task.Alive()
	if err != nil || aerr != nil || pid != p.pid || threads <= 0 {
		p.gone = true
		for _, b := range p.points {
			b.addr = 0
			_ = b.put(nil, 0, false) // a guest that cannot be paused is gone
		}
		return false
	}
	root, err := p.task.Root()
	if errors.Is(err, linux.ErrNoMM) && p.mine(r) { // that thread has ended
		if t, terr := p.kernel.CurrentTaskOn(r.VCPU, &r.Regs); terr == nil {
			p.task = t
			root, err = t.Root()
		}
	}
	if err == nil && vmi.PhysAddr(root) != p.space.Root() { // another program
		p.space = p.space.WithRoot(root)
		p.load(root)
		for _, b := range p.points {
			b.addr = 0
		}
	}
	return true
}

// load has hits counted with the page tables at root. In user mode InProcess may not
// tell on AMD.
func (p *Process) load(root vmi.CR3) {
	c := breakpoint.InRoot(root)
	p.current.Store(&c)
}

// owns reports whether an mm_struct is the process's.
func (p *Process) owns(mm vmi.VirtAddr) bool {
	root, err := p.kernel.RootAt(mm)
	return err == nil && vmi.PhysAddr(root) == p.space.Root()
}

// ends puts the breakpoints where the process's pages are after a page fault.
func (p *Process) ends(r *xen.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.look(r) {
		return
	}
	for _, b := range p.points {
		if b.err = b.follow(); b.err != nil {
			p.stats.Failed++
		}
	}
}

// Stats returns the counts so far.
func (p *Process) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Close removes the breakpoints. It is idempotent, and to be called before that of
// the engine.
func (p *Process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, b := range p.points {
		errs = append(errs, b.put(nil, 0, false))
	}
	for _, h := range p.hooks {
		errs = append(errs, h.Remove())
	}
	if p.patched {
		if len(p.points) > 0 {
			errs = append(errs, p.putRight())
		}
		errs = append(errs, p.stray.Close())
	}
	p.points = nil
	return errors.Join(errs...)
}
