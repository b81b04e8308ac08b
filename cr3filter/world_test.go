package cr3filter

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// memory is that of a recorded guest, which can be written here. Once the kernel is
// found, the frames that the recording lacks are empty.
type memory struct {
	file  vmi.Snapshot
	pages map[xen.GFN][]byte
	found bool
}

const (
	recordingFile = "../testdata/guests/linux-6.1.rec"
	endGFN        = xen.GFN(0xc000) // of the recorded guest
	idleRoot      = vmi.PhysAddr(0x2000)
)

func (m *memory) page(g xen.GFN) ([]byte, error) {
	if p := m.pages[g]; p != nil {
		return p, nil
	}
	p := make([]byte, xen.PageSize)
	if err := m.restore(g, p); err != nil {
		return nil, err
	}
	m.pages[g] = p
	return p, nil
}

// restore makes a page what it was when the guest was recorded.
func (m *memory) restore(g xen.GFN, p []byte) error {
	f, err := m.file.MapFrames([]xen.GFN{g}, false)
	if err != nil {
		return err
	}
	b, err := f.Frame(0)
	if errors.Is(err, vmi.ErrNotInFile) && m.found && g < endGFN {
		b, err = make([]byte, xen.PageSize), nil
	}
	if err != nil {
		return err
	}
	copy(p, b)
	return f.Close()
}

type memoryFrames struct {
	pages [][]byte
	errs  []error
}

func (m *memory) MapFrames(gfns []xen.GFN, _ bool) (vmi.Frames, error) {
	f := &memoryFrames{make([][]byte, len(gfns)), make([]error, len(gfns))}
	for i, g := range gfns {
		f.pages[i], f.errs[i] = m.page(g)
	}
	return f, nil
}

func (f *memoryFrames) Len() int                    { return len(f.pages) }
func (f *memoryFrames) Frame(i int) ([]byte, error) { return f.pages[i], f.errs[i] }
func (f *memoryFrames) Close() error                { return nil }

// recorded is the recorded guest, which the tests have one after the other.
var recorded = sync.OnceValues(func() (*linuxGuest, error) {
	f, err := os.Open(recordingFile)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := vmi.OpenSnapshot(f, info.Size())
	if err != nil {
		return nil, err
	}
	g := &linuxGuest{mem: &memory{file: s, pages: map[xen.GFN][]byte{}}}
	if g.kernel, err = linux.Open(vmi.NewMemory(g.mem, nil), s.Registers()); err != nil {
		return nil, err
	}
	g.mem.found = true
	return g, nil
})

type linuxGuest struct {
	mem    *memory
	kernel *linux.Kernel
}

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
	*linuxGuest
	t testing.TB

	cpus   []cpu
	cr3    bool // its writes are events
	views  map[xen.View]map[xen.GFN]xen.GFN
	handle xen.Handler
	scope  *Scope
	hits   map[int32]int

	fields map[string]linux.Field
	percpu vmi.VirtAddr
	heap   []vmi.VirtAddr // pages that nobody uses
	free   []vmi.VirtAddr // roots, the next one last
	used   []*space
	idle   *thread
	pid    int32
}

// The kernel's functions that run in a world.
var functions = []string{execFunc, renamedFunc, forkFunc, exitFunc, syscallFunc}

const syscallFunc = "__x64_sys_getppid"

func newWorld(t testing.TB, vcpus int) *world {
	t.Helper()
	g, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		guest: newGuest(), monitor: &monitor{room: 256}, linuxGuest: g, t: t, cpus: make([]cpu, vcpus),
		views: map[xen.View]map[xen.GFN]xen.GFN{}, hits: map[int32]int{}, fields: map[string]linux.Field{}, pid: 1000,
	}
	t.Cleanup(func() {
		if w.scope != nil {
			_ = w.scope.Close() // of a test that has not
		}
		for gfn, p := range g.mem.pages {
			if err := g.mem.restore(gfn, p); err != nil {
				t.Error(err)
			}
		}
	})
	base, err := w.kernel.AddressSpace().Uint64(w.symbol("__per_cpu_offset"))
	if err != nil {
		t.Fatal(err)
	}
	w.percpu = vmi.VirtAddr(base)
	for _, f := range functions {
		va := w.symbol(f)
		copy(w.bytes(va), []byte{0xf3, 0x0f, 0x1e, 0xfa}) // endbr64
	}
	// Free memory is beside the first process.
	first, err := w.kernel.TaskByPID(1)
	if err != nil {
		t.Fatal(err)
	}
	region := first.Addr &^ 0x1fffff
	there := slices.Collect(w.mem.file.GFNs())
	for off := vmi.VirtAddr(0); off < 0x200000; off += xen.PageSize {
		pa, err := w.kernel.AddressSpace().Translate(region + off)
		if err != nil {
			continue
		}
		if _, found := slices.BinarySearch(there, pa.GFN()); !found {
			w.heap = append(w.heap, region+off)
		}
	}
	w.idle = w.newThread(nil, nil, "swapper")
	for v := range w.cpus {
		w.cpus[v] = cpu{root: idleRoot, current: w.idle}
	}
	return w
}

func (w *world) symbol(name string) vmi.VirtAddr {
	w.t.Helper()
	va, err := w.kernel.Symbols().Lookup(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return va
}

// bytes is the guest's memory from va to the end of its page.
func (w *world) bytes(va vmi.VirtAddr) []byte {
	w.t.Helper()
	pa, err := w.kernel.AddressSpace().Translate(va)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.mem.page(pa.GFN())
	if err != nil {
		w.t.Fatal(err)
	}
	return p[pa.Offset():]
}

func (w *world) alloc() vmi.VirtAddr {
	w.t.Helper()
	if len(w.heap) == 0 {
		w.t.Fatal("the guest has no more memory")
	}
	va := w.heap[0]
	w.heap = w.heap[1:]
	return va
}

// member is the bytes of a member of a structure at va.
func (w *world) member(va vmi.VirtAddr, path string) []byte {
	w.t.Helper()
	f, ok := w.fields[path]
	if !ok {
		var err error
		if f, err = w.kernel.Field(path); err != nil {
			w.t.Fatal(err)
		}
		if f.Offset+f.Size > xen.PageSize {
			w.t.Fatalf("%s is beyond the page that a structure has here", path)
		}
		w.fields[path] = f
	}
	return w.bytes(va + vmi.VirtAddr(f.Offset))[:f.Size]
}

func (w *world) set(va vmi.VirtAddr, path string, v uint64) {
	b := w.member(va, path)
	if len(b) == 4 {
		binary.LittleEndian.PutUint32(b, uint32(v))
	} else {
		binary.LittleEndian.PutUint64(b, v)
	}
}

// Lists, by the addresses of their nodes.
func (w *world) link(node, head vmi.VirtAddr) {
	last := vmi.VirtAddr(binary.LittleEndian.Uint64(w.bytes(head + 8)))
	w.point(last, node)
	w.point(node, head)
}

func (w *world) point(from, to vmi.VirtAddr) {
	binary.LittleEndian.PutUint64(w.bytes(from), uint64(to))
	binary.LittleEndian.PutUint64(w.bytes(to+8), uint64(from))
}

func (w *world) unlink(node vmi.VirtAddr) {
	next, last := binary.LittleEndian.Uint64(w.bytes(node)), binary.LittleEndian.Uint64(w.bytes(node+8))
	w.point(vmi.VirtAddr(last), vmi.VirtAddr(next))
}

func (w *world) offset(path string) vmi.VirtAddr {
	w.member(w.idleAddr(), path) // looks it up
	return vmi.VirtAddr(w.fields[path].Offset)
}

func (w *world) idleAddr() vmi.VirtAddr { return w.symbol("init_task") }

// space is an mm_struct with its page tables.
type space struct {
	addr  vmi.VirtAddr
	pgd   vmi.VirtAddr
	root  vmi.PhysAddr
	users int
}

// newSpace gives out the root that was freed last.
func (w *world) newSpace() *space {
	s := &space{addr: w.alloc()}
	if n := len(w.free); n > 0 {
		s.pgd, w.free = w.free[n-1], w.free[:n-1]
	} else {
		// With KPTI a root has two pages.
		i := slices.IndexFunc(w.heap, func(va vmi.VirtAddr) bool { return va&0x1fff == 0 && slices.Contains(w.heap, va+xen.PageSize) })
		if i < 0 {
			w.t.Fatal("the guest has no more memory")
		}
		s.pgd = w.heap[i]
		w.heap = slices.DeleteFunc(w.heap, func(va vmi.VirtAddr) bool { return va&^0x1fff == s.pgd })
	}
	var err error
	if s.root, err = w.kernel.AddressSpace().Translate(s.pgd); err != nil {
		w.t.Fatal(err)
	}
	w.set(s.addr, "mm_struct.pgd", uint64(s.pgd))
	w.used = append(w.used, s)
	return s
}

// reclaim frees the roots that nobody uses and no vCPU has loaded. That is the
// moment until which they may be watched.
func (w *world) reclaim() {
	w.t.Helper()
	w.used = slices.DeleteFunc(w.used, func(s *space) bool {
		if s.users > 0 || slices.ContainsFunc(w.cpus, func(c cpu) bool { return c.root == s.root }) {
			return false
		}
		w.free = append(w.free, s.pgd)
		w.heap = append(w.heap, s.addr)
		if f := w.filter(); f != nil && (f.watches(s.root) || w.values[uint64(s.root)]) {
			w.t.Errorf("root %v is freed while it is watched", s.root)
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

// thread is a task_struct.
type thread struct {
	addr      vmi.VirtAddr
	pid, tgid int32
	space     *space
	signal    *signal
	ended     int // steps
}

type signal struct {
	addr    vmi.VirtAddr
	live    int
	threads int
}

// newThread makes the main thread of a process, or one more of the process of
// main. With no space it is the kernel's.
func (w *world) newThread(main *thread, s *space, comm string) *thread {
	w.t.Helper()
	th := &thread{addr: w.alloc(), pid: w.pid, tgid: w.pid, space: s}
	w.pid++
	clear(w.bytes(th.addr))
	head := w.offset("signal_struct.thread_head")
	if main != nil {
		th.tgid, th.signal, th.space = main.tgid, main.signal, main.space
	} else {
		th.signal = &signal{addr: w.alloc()}
		w.point(th.signal.addr+head, th.signal.addr+head)
		w.link(th.addr+w.offset("task_struct.tasks"), w.idleAddr()+w.offset("task_struct.tasks"))
	}
	w.link(th.addr+w.offset("task_struct.thread_node"), th.signal.addr+head)
	th.signal.live++
	th.signal.threads++
	w.set(th.signal.addr, "signal_struct.live.counter", uint64(th.signal.live))
	w.set(th.addr, "task_struct.pid", uint64(th.pid))
	w.set(th.addr, "task_struct.tgid", uint64(th.tgid))
	w.set(th.addr, "task_struct.signal", uint64(th.signal.addr))
	copy(w.member(th.addr, "task_struct.comm"), comm+"\x00")
	if th.space != nil {
		th.space.users++
		w.set(th.addr, "task_struct.mm", uint64(th.space.addr))
	}
	return th
}

// process makes one that was there before.
func (w *world) process(comm string) *thread { return w.newThread(nil, w.newSpace(), comm) }

// run has a vCPU switch to a thread. The kernel's have no page tables of their own
// and stay on those that are loaded.
func (w *world) run(v xen.VCPU, th *thread) {
	w.t.Helper()
	if th.space != nil {
		w.load(v, th.space.root)
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
	r.VCPU, r.View, r.Regs.CR3, r.Regs.GS.Base = v, c.view, uint64(c.root), uint64(w.percpu)
	binary.LittleEndian.PutUint64(w.bytes(w.percpu+w.symbol("current_task")), uint64(c.current.addr))
	resp := w.handle(r)
	if resp.Switch {
		c.view = resp.View
	}
	return resp
}

// call has the vCPU execute a function of the kernel.
func (w *world) call(v xen.VCPU, function string, argument vmi.VirtAddr) {
	w.t.Helper()
	va := w.symbol(function)
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
	pa, err := w.kernel.AddressSpace().Translate(va)
	if err != nil {
		w.t.Fatal(err)
	}
	shown := pa.GFN()
	if g, ok := w.views[w.cpus[v].view][shown]; ok {
		shown = g
	}
	p, err := w.mem.page(shown)
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
	comm := linux.Comm(w.member(parent.addr, "task_struct.comm")).String()
	var child *thread
	switch how {
	case forks:
		child = w.newThread(nil, w.newSpace(), comm)
	case vforks:
		child = w.newThread(nil, parent.space, comm)
	case clones:
		child = w.newThread(parent, nil, comm)
	}
	w.call(v, forkFunc, child.addr)
	return child
}

// exec has what the vCPU runs execute a program. Without success it fails when its
// page tables are there but not in use.
func (w *world) exec(v xen.VCPU, comm string, success bool) {
	w.t.Helper()
	th := w.cpus[v].current
	binprm, s := w.alloc(), w.newSpace()
	w.set(binprm, "linux_binprm.mm", uint64(s.addr))
	w.call(v, execFunc, binprm)
	if success {
		th.space.users--
		th.space = s
		s.users++
		w.set(th.addr, "task_struct.mm", uint64(s.addr))
		w.load(v, s.root)
		b := w.member(th.addr, "task_struct.comm")
		clear(b)
		copy(b, comm)
		w.call(v, renamedFunc, binprm)
	}
	w.reclaim()
	w.heap = append(w.heap, binprm)
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
		th.signal.live--
		w.set(th.signal.addr, "signal_struct.live.counter", uint64(th.signal.live))
	case 2:
		w.call(v, exitFunc, th.addr)
	case 3:
		w.set(th.addr, "task_struct.mm", 0)
		th.space.users--
		th.space = nil // it runs on with what is loaded
	case 4:
		for i := range w.cpus {
			if w.cpus[i].current == th {
				w.cpus[i].current = w.idle
			}
		}
		w.unlink(th.addr + w.offset("task_struct.thread_node"))
		if th.pid == th.tgid {
			w.unlink(th.addr + w.offset("task_struct.tasks"))
		}
		w.heap = append(w.heap, th.addr)
		if th.signal.threads--; th.signal.threads == 0 {
			w.heap = append(w.heap, th.signal.addr)
		}
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
	before := w.hits[th.tgid]
	w.call(v, syscallFunc, 0)
	if got := w.hits[th.tgid] - before; got != map[bool]int{true: 1}[counted] {
		w.t.Errorf("%d hits of thread %d of process %d, want it counted: %v", got, th.pid, th.tgid, counted)
	}
}

// scoped checks which processes are in the scope.
func (w *world) scoped(threads ...*thread) {
	w.t.Helper()
	var want []int32
	for _, th := range threads {
		want = append(want, th.tgid)
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
	s, err := OpenScope(Guest{Domain: w, Monitor: w, Frames: w.mem, Kernel: w.kernel, Loop: loop}, p, &o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.scope = s
	if err := loop.Run(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	_, err = s.Insert(w.symbol(syscallFunc), func(_ *xen.Request, t linux.Task) xen.Response {
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
			if _, code := w.fetch(xen.VCPU(v), w.symbol(syscallFunc)); code == int3 {
				w.t.Errorf("vCPU %d is still inside", v)
			}
		}
	}
	if err := w.scope.Close(); !errors.Is(err, want) {
		w.t.Errorf("Close: %v, want %v", err, want)
	}
	for _, f := range functions {
		if b := w.bytes(w.symbol(f)); b[0] != 0xf3 {
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
	return w.mem.MapFrames(gfns, writable)
}

func (w *world) Info() (xen.DomainInfo, error) {
	return xen.DomainInfo{MaxVCPU: xen.VCPU(len(w.cpus) - 1)}, nil
}

func (w *world) Registers(v xen.VCPU) (*xen.Registers, error) {
	return &xen.Registers{CR3: uint64(w.cpus[v].root)}, nil
}

func (w *world) MaximumGPFN() (xen.GFN, error) { return endGFN - 1, nil }

func (w *world) Populate(gfn xen.GFN) error {
	w.mem.pages[gfn] = make([]byte, xen.PageSize)
	return nil
}

func (w *world) RemoveFrame(gfn xen.GFN) error {
	delete(w.mem.pages, gfn)
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
