package cr3filter

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// The kernel's functions at which the set of processes changes. All of them run
// in the process that they are about.
const (
	// execFunc(struct linux_binprm *) is called before the process switches to
	// the page tables in bprm->mm, and can still fail.
	execFunc = "begin_new_exec"
	// renamedFunc(struct linux_binprm *) is called when it runs on them, with its
	// new name.
	renamedFunc = "setup_new_exec"
	// forkFunc(struct task_struct *) is called by the parent before the new task
	// runs.
	forkFunc = "wake_up_new_task"
	// exitFunc(struct task_struct *, struct mm_struct *) is called by each thread
	// that ends, when its process does not count it any more (Task.Alive) and
	// before it lets go of the page tables. So the last one finds none alive, in
	// whatever order they come, and the tables are still its process's.
	exitFunc = "exit_mm_release"
)

// maxProcesses bounds the processes that are followed at a time.
const maxProcesses = 1 << 15

// process is one that the scope is about.
type process struct {
	root vmi.PhysAddr
	// next is the root that it is about to switch to, executing a program. It is
	// watched only from the switch on: the program may not come to run.
	next    vmi.PhysAddr
	leaving bool // it has another name now
}

// lifecycle keeps the set of processes and their roots. Its methods are called
// with the scope's mu held, unless they say otherwise.
type lifecycle struct {
	s  *Scope
	mm linux.Field // linux_binprm.mm

	procs map[int32]*process // by thread group
	// members is what procs has, and whether it is leaving, for readers without
	// the lock; nil is everyone.
	members *table
	roots   map[vmi.PhysAddr]int // processes on a watched root
	nexts   int                  // processes with next set
	inside  []vmi.PhysAddr       // by vCPU: the watched root that it has loaded, or 0
	regs    *xen.Registers       // of the CR3 write that is handled
}

// open finds out whether there is what the scope is to be about.
func (l *lifecycle) open(s *Scope) (err error) {
	l.s = s
	l.procs, l.roots = map[int32]*process{}, map[vmi.PhysAddr]int{}
	l.inside = make([]vmi.PhysAddr, s.vcpus)
	if s.process == (Process{}) {
		return nil
	}
	l.members = newTable()
	if l.mm, err = s.guest.Kernel.Field("linux_binprm.mm"); err != nil {
		return err
	}
	tasks, err := l.find()
	if err == nil && len(tasks) == 0 && s.process.Comm == "" {
		err = ErrNoProcess
	}
	return err
}

// find returns the processes, each by its main thread.
func (l *lifecycle) find() ([]linux.Task, error) {
	k, p := l.s.guest.Kernel, l.s.process
	switch {
	case p.PID != 0:
		t, err := k.TaskByPID(p.PID)
		if errors.Is(err, linux.ErrNoTask) {
			return nil, ErrNoProcess
		}
		if err != nil {
			return nil, err
		}
		if tgid, err := t.TGID(); err != nil || tgid != p.PID {
			return nil, errors.Join(err, fmt.Errorf("it is a thread of process %d", tgid))
		}
		return []linux.Task{t}, nil
	case p.Comm != "":
		tasks, err := k.TasksByComm(p.Comm)
		if errors.Is(err, linux.ErrNoTask) {
			return nil, nil
		}
		return tasks, err
	}
	c := Linux(k.KPTI())
	want := vmi.CR3(uint64(p.Root) &^ c.Ignore).Root()
	for t, err := range k.Tasks() {
		if err != nil {
			return nil, err
		}
		if root, err := l.rootOf(t); err == nil && root.Root() == want {
			return []linux.Task{t}, nil
		}
	}
	return nil, nil
}

// insertHooks places the hooks; the caller does not hold mu.
func (l *lifecycle) insertHooks() error {
	if l.s.process == (Process{}) {
		return nil
	}
	for _, h := range []struct {
		name   string
		wanted bool
		always bool
		hook   func(r *xen.Request, t linux.Task, resp *xen.Response)
	}{
		{exitFunc, true, false, l.exits},
		{execFunc, l.s.mechanism != EveryHit, false, l.executes},
		{forkFunc, l.s.opts.Follow || l.s.process.Comm != "", false, l.forks},
		{renamedFunc, l.s.process.Comm != "", true, l.renamed},
	} {
		if !h.wanted {
			continue
		}
		va, err := l.s.guest.Kernel.Symbols().Lookup(h.name)
		if err != nil {
			return err
		}
		if _, err := l.s.insert(va, h.always, func(a *actions) { a.hook = h.hook }); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	return nil
}

// start takes in the processes that there are, with the guest paused, and returns
// which vCPUs run one of them.
func (l *lifecycle) start() (inside []bool, err error) {
	inside = make([]bool, l.s.vcpus)
	if l.s.process == (Process{}) {
		for v := range inside {
			inside[v] = true
		}
		return inside, nil
	}
	tasks, err := l.find()
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if err := l.add(t); err != nil {
			return nil, err
		}
	}
	if len(l.procs) == 0 && l.s.process.Comm == "" {
		return nil, ErrNoProcess
	}
	f := l.s.filter.Load()
	if f == nil {
		for v := range inside {
			inside[v] = true
		}
		return inside, nil
	}
	for v := range inside {
		r, err := l.s.guest.Domain.Registers(xen.VCPU(v))
		if errors.Is(err, syscall.ENODATA) {
			continue // offline
		}
		if err != nil {
			return nil, err
		}
		if root := f.Masked(vmi.CR3(r.CR3)); f.watches(root) {
			l.inside[v], inside[v] = root, true
		}
	}
	return inside, nil
}

// has reports whether a process is in the scope, and whether this is its last
// hit. It takes no lock.
func (l *lifecycle) has(tgid int32) (in, leaving bool) {
	if l.members == nil {
		return true, false
	}
	leaving, in = l.members.get(number(tgid))
	return in, leaving
}

// list takes no lock.
func (l *lifecycle) list() (tgids []int32) {
	if l.members == nil {
		return nil
	}
	for n := range l.members.all() {
		tgids = append(tgids, int32(n))
	}
	slices.Sort(tgids)
	return slices.Compact(tgids)
}

// number is what the table of members has for a process.
func number(tgid int32) uint64 { return uint64(uint32(tgid)) }

var errProcesses = fmt.Errorf("more than %d processes at a time", maxProcesses)

// add takes in t's process, if it has memory of its own and lives.
func (l *lifecycle) add(t linux.Task) error {
	tgid, err := t.TGID()
	if err != nil || l.procs[tgid] != nil {
		return err
	}
	// The last thread may have passed exitFunc already.
	if n, err := t.Alive(); err != nil || n <= 0 {
		return err
	}
	if len(l.procs) >= maxProcesses {
		return errProcesses
	}
	root, err := l.rootOf(t)
	if errors.Is(err, linux.ErrNoMM) {
		return nil // a kernel thread
	}
	if err != nil {
		return err
	}
	p := &process{root: l.masked(root)}
	if err := l.hold(p.root); err != nil {
		return err
	}
	l.procs[tgid] = p
	l.members.put(number(tgid), false)
	return nil
}

// rootOf returns the root of t's process. Its main thread may have ended, and has
// none then.
func (l *lifecycle) rootOf(t linux.Task) (vmi.CR3, error) {
	root, err := t.Root()
	if !errors.Is(err, linux.ErrNoMM) {
		return root, err
	}
	for th, terr := range l.s.guest.Kernel.ThreadsOf(t) {
		if terr != nil {
			return 0, terr
		}
		if root, terr := th.Root(); !errors.Is(terr, linux.ErrNoMM) {
			return root, terr
		}
	}
	return 0, err
}

// masked returns what is compared of a root.
func (l *lifecycle) masked(c vmi.CR3) vmi.PhysAddr {
	if f := l.s.filter.Load(); f != nil {
		return f.Masked(c)
	}
	return c.Root()
}

// hold watches a root, which processes can share.
func (l *lifecycle) hold(root vmi.PhysAddr) error {
	if f := l.s.filter.Load(); f != nil && l.roots[root] == 0 {
		if err := f.Watch(vmi.CR3(root)); err != nil {
			return err
		}
	}
	l.roots[root]++
	return nil
}

// release takes back one hold. vCPUs that have the root loaded still are
// outside from now on, since Xen will not report their next switch.
func (l *lifecycle) release(root vmi.PhysAddr, v xen.VCPU, resp *xen.Response) error {
	if l.roots[root] == 0 {
		return nil
	}
	if l.roots[root]--; l.roots[root] > 0 {
		return nil
	}
	delete(l.roots, root)
	f := l.s.filter.Load()
	if f == nil {
		return nil
	}
	errs := []error{f.Unwatch(vmi.CR3(root))}
	for i, r := range l.inside {
		if r != root {
			continue
		}
		l.inside[i] = 0
		to := resp
		if xen.VCPU(i) != v {
			to = new(xen.Response) // an altp2m view it leaves at its next hit
		}
		errs = append(errs, l.s.gate.leave(xen.VCPU(i), to))
	}
	return errors.Join(errs...)
}

// remove lets go of a process.
func (l *lifecycle) remove(tgid int32, v xen.VCPU, resp *xen.Response) error {
	p := l.procs[tgid]
	if p == nil {
		return nil
	}
	l.forget(tgid, p)
	return l.release(p.root, v, resp)
}

// forget takes a process out of the lists; its root is the caller's.
func (l *lifecycle) forget(tgid int32, p *process) {
	delete(l.procs, tgid)
	l.members.remove(number(tgid))
	if p.next != 0 {
		l.nexts--
	}
}

// switched follows a switch, and reports whether the vCPU is inside now.
func (l *lifecycle) switched(w Switch) (in bool, err error) {
	f := l.s.filter.Load()
	if l.nexts > 0 && !f.watches(w.To) {
		err = l.replaced(w)
	}
	in = f.watches(w.To)
	if int(w.VCPU) < len(l.inside) {
		l.inside[w.VCPU] = 0
		if in {
			l.inside[w.VCPU] = w.To
		}
	}
	return in, err
}

// replaced handles the switch of a process to the page tables of the program that
// it executes. The old ones are freed after it.
func (l *lifecycle) replaced(w Switch) error {
	// A program that did not come to run leaves its page tables to others. Only
	// the process itself has them as its own when it switches to them.
	t, err := l.s.guest.Kernel.CurrentTask(l.regs)
	if err != nil {
		return nil
	}
	tgid, err := t.TGID()
	p := l.procs[tgid]
	if err != nil || p == nil || p.root != w.From || p.next != w.To {
		return err
	}
	root, err := t.Root()
	if errors.Is(err, linux.ErrNoMM) {
		return nil // it ends
	}
	if err != nil || l.masked(root) != w.To {
		return err
	}
	p.root, p.next = w.To, 0
	l.nexts--
	// First the old root, whose place the new one may need.
	err = l.release(w.From, w.VCPU, new(xen.Response))
	if herr := l.hold(w.To); herr != nil {
		l.forget(tgid, p)
		l.s.unfollowed.Add(1)
		return errors.Join(err, fmt.Errorf("process %d is not followed any more: %w", tgid, herr))
	}
	return err
}

func (l *lifecycle) executes(r *xen.Request, t linux.Task, resp *xen.Response) {
	tgid, err := t.TGID()
	p := l.procs[tgid]
	if err != nil || p == nil {
		l.s.fail(err)
		return
	}
	k := l.s.guest.Kernel
	var root vmi.CR3
	mm, err := l.mm.Pointer(k.AddressSpace(), vmi.VirtAddr(r.Regs.RDI))
	if err == nil {
		root, err = k.RootAt(mm)
	}
	if err != nil {
		// Its root would go without a word.
		l.lose(errors.Join(fmt.Errorf("process %d is not followed any more: %w", tgid, err), l.remove(tgid, r.VCPU, resp)))
		return
	}
	if p.next == 0 {
		l.nexts++
	}
	p.next = l.masked(root)
}

func (l *lifecycle) renamed(r *xen.Request, t linux.Task, resp *xen.Response) {
	comm, err := t.Comm()
	if err != nil {
		l.s.fail(err)
		return
	}
	tgid, err := t.TGID()
	if err != nil {
		l.s.fail(err)
		return
	}
	p, wanted := l.procs[tgid], comm.Is(l.s.process.Comm)
	switch {
	case p == nil && wanted:
		if err := l.add(t); err != nil {
			l.lose(err)
			return
		}
		l.s.fail(l.runs(tgid, r.VCPU, resp))
	case p != nil && p.leaving == wanted:
		p.leaving = !wanted
		l.members.put(number(tgid), p.leaving)
	}
}

// runs notes that a vCPU runs a process that has just been taken in.
func (l *lifecycle) runs(tgid int32, v xen.VCPU, resp *xen.Response) error {
	p := l.procs[tgid]
	if p == nil || l.s.filter.Load() == nil || int(v) >= len(l.inside) {
		return nil
	}
	l.inside[v] = p.root
	return l.s.gate.enter(v, resp)
}

func (l *lifecycle) forks(r *xen.Request, t linux.Task, _ *xen.Response) {
	tgid, err := t.TGID()
	if p := l.procs[tgid]; err != nil || p == nil || p.leaving {
		l.s.fail(err)
		return
	}
	child, err := l.s.guest.Kernel.TaskAt(vmi.VirtAddr(r.Regs.RDI))
	if err == nil {
		err = l.add(child) // of a process that is there already if it is a thread
	}
	l.lose(err)
}

// lose notes a process that cannot be followed, if there is an error.
func (l *lifecycle) lose(err error) {
	if err != nil {
		l.s.unfollowed.Add(1)
		l.s.fail(err)
	}
}

func (l *lifecycle) exits(r *xen.Request, t linux.Task, resp *xen.Response) {
	tgid, err := t.TGID()
	if err != nil || l.procs[tgid] == nil {
		l.s.fail(err)
		return
	}
	switch n, err := t.Alive(); {
	case err != nil:
		l.s.fail(err)
	case n <= 0:
		l.s.fail(l.remove(tgid, r.VCPU, resp))
	}
}
