package cr3filter

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/recorded"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

const idleRoot = vmi.PhysAddr(0x2000)

// cpu is a vCPU under the fake hypervisor.
type cpu struct {
	root    vmi.PhysAddr
	view    xen.View
	current *thread
}

// world is the recorded kernel under a fake hypervisor. The test makes processes,
// has them run and ends them, in steps as Linux does it.
type world struct {
	*guest // what a domain has besides
	*monitor
	*recorded.Guest
	t testing.TB

	cpus   []cpu
	cr3    bool // its writes are events
	views  map[xen.View]map[xen.GFN]xen.GFN
	handle xen.Handler
	scope  *Scope
	hits   map[int32]int

	free []vmi.VirtAddr // roots, the next one last
	used []*recorded.Space
	idle *thread
	pid  int32
}

// The kernel's functions that run in a world.
var functions = []string{execFunc, renamedFunc, forkFunc, exitFunc, syscallFunc}

const syscallFunc = "__x64_sys_getppid"

func newWorld(t testing.TB, vcpus int) *world {
	t.Helper()
	w := &world{
		guest: newGuest(), monitor: &monitor{room: 256}, Guest: recorded.Open(t), t: t, cpus: make([]cpu, vcpus),
		views: map[xen.View]map[xen.GFN]xen.GFN{}, hits: map[int32]int{}, pid: 1000,
	}
	t.Cleanup(func() {
		if w.scope != nil {
			_ = w.scope.Close() // of a test that has not
		}
	})
	for _, f := range functions {
		va := w.Symbol(f)
		copy(w.Bytes(va), []byte{0xf3, 0x0f, 0x1e, 0xfa}) // endbr64
	}
	w.idle = w.newThread(nil, nil, "swapper")
	for v := range w.cpus {
		w.cpus[v] = cpu{root: idleRoot, current: w.idle}
	}
	return w
}

// newSpace gives out the root that was freed last.
func (w *world) newSpace() *recorded.Space {
	w.t.Helper()
	pgd := vmi.VirtAddr(0)
	if n := len(w.free); n > 0 {
		pgd, w.free = w.free[n-1], w.free[:n-1]
	}
	s := w.NewSpace(pgd)
	w.used = append(w.used, s)
	return s
}

// reclaim frees the roots that nobody uses and no vCPU has loaded. That is the
// moment until which they may be watched.
func (w *world) reclaim() {
	w.t.Helper()
	w.used = slices.DeleteFunc(w.used, func(s *recorded.Space) bool {
		if s.Users > 0 || slices.ContainsFunc(w.cpus, func(c cpu) bool { return c.root == s.Root }) {
			return false
		}
		w.free = append(w.free, s.PGD)
		w.Free(s.Addr)
		if f := w.filter(); f != nil && (f.watches(s.Root) || w.values[uint64(s.Root)]) {
			w.t.Errorf("root %v is freed while it is watched", s.Root)
		}
		return true
	})
}

func (w *world) filter() *Filter {
	if w.scope == nil {
		return nil
	}
	return w.scope.filter.Load()
}

// thread is one with the steps of its exit.
type thread struct {
	*recorded.Thread
	ended int
}

// newThread makes the main thread of a process, or one more of the process of main.
// With no space it is the kernel's.
func (w *world) newThread(main *thread, s *recorded.Space, comm string) *thread {
	w.t.Helper()
	var m *recorded.Thread
	if main != nil {
		m = main.Thread
	}
	th := &thread{Thread: w.NewThread(w.pid, m, s, comm)}
	w.pid++
	return th
}

// process makes one that was there before.
func (w *world) process(comm string) *thread { return w.newThread(nil, w.newSpace(), comm) }

// run has a vCPU switch to a thread. The kernel's have no page tables of their own
// and stay on those that are loaded.
func (w *world) run(v xen.VCPU, th *thread) {
	w.t.Helper()
	if th.Space != nil {
		w.load(v, th.Space.Root)
	}
	w.cpus[v].current = th
	w.reclaim()
}

// rest has a vCPU switch to the kernel's own page tables.
func (w *world) rest(v xen.VCPU) {
	w.t.Helper()
	w.load(v, idleRoot)
	w.cpus[v].current = w.idle
	w.reclaim()
}

// load writes CR3, of which the hypervisor reports what it was told to.
func (w *world) load(v xen.VCPU, root vmi.PhysAddr) {
	w.t.Helper()
	old := w.cpus[v].root
	w.cpus[v].root = root
	switch {
	case !w.cr3 || old == root:
		return
	case w.monitor.set.Mode == xen.CR3FilterMember && w.values[uint64(old)] == w.values[uint64(root)]:
		return
	}
	w.event(v, &xen.Request{
		Reason: xen.ReasonWriteCtrlReg,
		Ctrl:   xen.CtrlRegWrite{Reg: xen.CR3, Old: uint64(old) | 3, New: uint64(root) | 5},
	})
}

// event has the monitor answer.
func (w *world) event(v xen.VCPU, r *xen.Request) xen.Response {
	c := &w.cpus[v]
	r.VCPU, r.View, r.Regs.CR3, r.Regs.GS.Base = v, c.view, uint64(c.root), uint64(w.SetCurrent(c.current.Addr))
	resp := w.handle(r)
	if resp.Switch {
		c.view = resp.View
	}
	return resp
}

// call has the vCPU execute a function of the kernel.
func (w *world) call(v xen.VCPU, function string, argument vmi.VirtAddr) {
	w.t.Helper()
	va := w.Symbol(function)
	gfn, code := w.fetch(v, va)
	if code != int3 {
		return
	}
	resp := w.event(v, &xen.Request{
		Reason:     xen.ReasonSoftwareBreakpoint,
		Breakpoint: xen.SoftwareBreakpoint{GFN: gfn, InsnLength: 1},
		Regs:       xen.Registers{RIP: uint64(va), RDI: uint64(argument)},
	})
	if resp.Action == xen.Continue {
		w.t.Errorf("%s is not stepped over: %+v", function, resp)
	}
}

// fetch returns the byte that the vCPU executes at va.
func (w *world) fetch(v xen.VCPU, va vmi.VirtAddr) (xen.GFN, byte) {
	w.t.Helper()
	pa, err := w.Kernel.AddressSpace().Translate(va)
	if err != nil {
		w.t.Fatal(err)
	}
	shown := pa.GFN()
	if g, ok := w.views[w.cpus[v].view][shown]; ok {
		shown = g
	}
	p, err := w.Page(shown)
	if err != nil {
		w.t.Fatal(err)
	}
	return pa.GFN(), p[pa.Offset()]
}

// How a new task shares what its parent has.
const (
	forks = iota
	vforks
	clones // a thread
)

func (w *world) fork(v xen.VCPU, how int) *thread {
	w.t.Helper()
	parent := w.cpus[v].current
	comm := linux.Comm(w.Member(parent.Addr, "task_struct.comm")).String()
	var child *thread
	switch how {
	case forks:
		child = w.newThread(nil, w.newSpace(), comm)
	case vforks:
		child = w.newThread(nil, parent.Space, comm)
	case clones:
		child = w.newThread(parent, nil, comm)
	}
	w.call(v, forkFunc, child.Addr)
	return child
}

// exec has what the vCPU runs execute a program. Without success it fails when its
// page tables are there but not in use.
func (w *world) exec(v xen.VCPU, comm string, success bool) {
	w.t.Helper()
	th := w.cpus[v].current
	binprm, s := w.Alloc(), w.newSpace()
	w.Set(binprm, "linux_binprm.mm", uint64(s.Addr))
	w.call(v, execFunc, binprm)
	if success {
		th.Space.Users--
		w.SetSpace(th.Thread, s)
		w.load(v, s.Root)
		b := w.Member(th.Addr, "task_struct.comm")
		clear(b)
		copy(b, comm)
		w.call(v, renamedFunc, binprm)
	}
	w.reclaim()
	w.Free(binprm)
}

// exit takes a thread one of the steps to its end, in which the vCPU runs it, and
// reports whether there are more.
func (w *world) exit(v xen.VCPU, th *thread) bool {
	w.t.Helper()
	if th.ended < 3 {
		w.run(v, th)
	}
	th.ended++
	switch th.ended {
	case 1: // in do_exit
		w.SetLive(th.Signal, th.Signal.Live-1)
	case 2:
		w.call(v, exitFunc, th.Addr)
	case 3:
		th.Space.Users--
		w.SetSpace(th.Thread, nil) // it runs on with what is loaded
	case 4:
		for i := range w.cpus {
			if w.cpus[i].current == th {
				w.cpus[i].current = w.idle
			}
		}
		w.Reap(th.Thread)
		return false
	}
	return true
}

// end ends threads, one after the other.
func (w *world) end(v xen.VCPU, threads ...*thread) {
	w.t.Helper()
	for _, th := range threads {
		for w.exit(v, th) {
		}
	}
	w.rest(v)
}

// calls has a vCPU run a thread that makes a system call, which the scope is to
// count or not to.
func (w *world) calls(v xen.VCPU, th *thread, counted bool) {
	w.t.Helper()
	w.run(v, th)
	before := w.hits[th.TGID]
	w.call(v, syscallFunc, 0)
	if got := w.hits[th.TGID] - before; got != map[bool]int{true: 1}[counted] {
		w.t.Errorf("%d hits of thread %d of process %d, want it counted: %v", got, th.PID, th.TGID, counted)
	}
}

// scoped checks which processes are in the scope.
func (w *world) scoped(threads ...*thread) {
	w.t.Helper()
	var want []int32
	for _, th := range threads {
		want = append(want, th.TGID)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, w.scope.Processes()); diff != "" {
		w.t.Errorf("processes (-want +got):\n%s", diff)
	}
}

// open opens a scope with a breakpoint on the system call.
func (w *world) open(p Process, o ScopeOptions) *Scope {
	w.t.Helper()
	for _, m := range o.Mechanisms {
		w.patched = m == FilteredByXen
	}
	loop := vmi.NewLoop(w)
	s, err := OpenScope(Guest{Domain: w, Monitor: w, Frames: w.Guest, Kernel: w.Kernel, Loop: loop}, p, &o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.scope = s
	if err := loop.Run(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	_, err = s.Insert(w.Symbol(syscallFunc), func(_ *xen.Request, t linux.Task) xen.Response {
		tgid, err := t.TGID()
		if err != nil {
			w.t.Error(err)
		}
		w.hits[tgid]++
		return xen.Response{}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// start opens a scope and starts it.
func (w *world) start(p Process, o ScopeOptions) {
	w.t.Helper()
	if err := w.open(p, o).Start(); err != nil {
		w.t.Fatal(err)
	}
}

// close closes the scope when all that was in it has ended, and checks that nothing
// is left.
func (w *world) close(want error) {
	w.t.Helper()
	w.scoped()
	if len(w.values) != 0 || len(w.scope.life.roots) != 0 || w.scope.life.members.n != 0 {
		w.t.Errorf("roots %v and %v and %d members left", w.values, w.scope.life.roots, w.scope.life.members.n)
	}
	if w.scope.mechanism != EveryHit {
		for v := range w.cpus {
			w.rest(xen.VCPU(v))
			w.call(xen.VCPU(v), syscallFunc, 0) // one that is inside without reason leaves
			if _, code := w.fetch(xen.VCPU(v), w.Symbol(syscallFunc)); code == int3 {
				w.t.Errorf("vCPU %d is still inside", v)
			}
		}
	}
	if err := w.scope.Close(); !errors.Is(err, want) {
		w.t.Errorf("Close: %v, want %v", err, want)
	}
	for _, f := range functions {
		if b := w.Bytes(w.Symbol(f)); b[0] != 0xf3 {
			w.t.Errorf("%s begins with %#x", f, b[0])
		}
	}
	if stats, err := w.scope.Stats(); err != nil || stats.Unknown != 0 || stats.Breakpoints.Foreign != 0 || stats.Breakpoints.Overwritten != 0 {
		w.t.Errorf("%+v, %v", stats, err)
	}
}

// What the hypervisor does for a scope.
func (w *world) Serve(_ context.Context, h xen.Handler) error { w.handle = h; return nil }
func (w *world) EnableSoftwareBreakpoint() error              { return nil }
func (w *world) EnableSingleStep() error                      { return nil }

func (w *world) EnableCtrlReg(reg xen.CtrlReg, o *xen.CtrlRegOptions) error {
	w.cr3 = true
	return w.monitor.EnableCtrlReg(reg, o)
}

func (w *world) DisableCtrlReg(reg xen.CtrlReg) error {
	w.cr3 = false
	return w.monitor.DisableCtrlReg(reg)
}

func (w *world) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	return w.Guest.MapFrames(gfns, writable)
}

func (w *world) Info() (xen.DomainInfo, error) {
	return xen.DomainInfo{MaxVCPU: xen.VCPU(len(w.cpus) - 1)}, nil
}

func (w *world) Registers(v xen.VCPU) (*xen.Registers, error) {
	return &xen.Registers{CR3: uint64(w.cpus[v].root)}, nil
}

func (w *world) MaximumGPFN() (xen.GFN, error) { return recorded.End - 1, nil }

func (w *world) Populate(gfn xen.GFN) error {
	w.Add(gfn)
	return nil
}

func (w *world) RemoveFrame(gfn xen.GFN) error {
	w.Remove(gfn)
	return nil
}

func (w *world) ChangeGFN(v xen.View, from, to xen.GFN) error {
	if w.views[v] == nil {
		w.views[v] = map[xen.GFN]xen.GFN{}
	}
	w.views[v][from] = to
	return nil
}

func (w *world) SwitchView(v xen.View) error {
	for i := range w.cpus {
		w.cpus[i].view = v
	}
	return nil
}
