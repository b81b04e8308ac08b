package cr3filter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/govmi/govmi/xen"
)

// each tells a story with each mechanism, in a view and in the guest's own frames.
func each(t *testing.T, vcpus int, play func(w *world, o ScopeOptions)) {
	with(t, mechanisms, vcpus, play)
}

func with(t *testing.T, mechanisms []Mechanism, vcpus int, play func(w *world, o ScopeOptions)) {
	for _, m := range mechanisms {
		for _, noViews := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, views %v", m, !noViews), func(t *testing.T) {
				play(newWorld(t, vcpus), ScopeOptions{Mechanisms: []Mechanism{m}, NoViews: noViews})
			})
		}
	}
}

// A process is followed to the page tables of the program that it executes. Its old
// ones go to somebody else at once.
func TestLifeExec(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		w.start(Process{PID: p.TGID}, o)
		for range 3 {
			w.calls(0, p, true)
			old := p.Space.Root
			w.exec(0, "other", true)
			stranger := w.process("stranger")
			if stranger.Space.Root != old {
				w.t.Fatal("the root is not used again")
			}
			w.calls(0, p, true)
			w.calls(0, stranger, false)
			w.calls(0, p, true)
			w.end(0, stranger)
		}
		w.scoped(p)
		w.end(0, p)
		w.close(nil)
	})
}

// A program that does not come to run leaves its page tables to somebody else, and
// the process where it was.
func TestLifeExecFails(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		w.start(Process{PID: p.TGID}, o)
		w.calls(0, p, true)
		w.exec(0, "other", false)
		stranger := w.process("stranger")
		for range 2 {
			w.calls(0, p, true)
			w.calls(0, stranger, false)
		}
		w.run(0, p)
		w.exec(0, "other", true) // it tries again
		w.calls(0, p, true)
		w.calls(0, stranger, false)
		w.run(0, p)
		w.exec(0, "other", false)
		w.end(0, p, stranger) // and is killed the next time
		if n := w.scope.life.nexts; n != 0 {
			w.t.Errorf("%d processes are about to execute", n)
		}
		w.close(nil)
	})
}

// A program that runs, but is killed before its first instruction.
func TestLifeExecKilled(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		w.start(Process{PID: p.TGID}, o)
		w.run(0, p)
		w.exec(0, "other", true)
		w.end(0, p)
		w.close(nil)
	})
}

// What a process forks is in the scope on request, and goes its own ways.
func TestLifeFork(t *testing.T) {
	for _, follow := range []bool{false, true} {
		each(t, 1, func(w *world, o ScopeOptions) {
			o.Follow = follow
			p := w.process("subject")
			w.start(Process{PID: p.TGID}, o)
			w.run(0, p)
			child := w.fork(0, forks)
			w.calls(0, child, follow)
			grandchild := w.fork(0, forks)
			w.calls(0, grandchild, follow)
			w.exec(0, "other", true)
			w.calls(0, grandchild, follow)
			w.calls(0, p, true)
			w.end(0, child) // before its child and its parent
			w.calls(0, grandchild, follow)
			w.calls(0, p, true)
			stranger := w.process("stranger") // with the child's root
			w.calls(0, stranger, false)
			w.end(0, p)
			if follow {
				w.scoped(grandchild)
			}
			w.calls(0, grandchild, follow)
			w.end(0, grandchild, stranger)
			w.close(nil)
		})
	}
}

// A child that shares its parent's page tables until it executes a program or ends.
func TestLifeVfork(t *testing.T) {
	for _, follow := range []bool{false, true} {
		each(t, 1, func(w *world, o ScopeOptions) {
			o.Follow = follow
			p := w.process("subject")
			w.start(Process{PID: p.TGID}, o)
			w.run(0, p)
			child := w.fork(0, vforks)
			w.calls(0, child, follow)
			w.exec(0, "other", true)
			w.calls(0, child, follow)
			w.calls(0, p, true)
			second := w.fork(0, vforks)
			w.calls(0, second, follow)
			w.end(0, second)
			w.calls(0, p, true)
			third := w.fork(0, vforks)
			w.end(0, p) // killed, while its child is at work
			w.calls(0, third, follow)
			w.calls(0, child, follow)
			w.end(0, third, child)
			w.close(nil)
		})
	}
}

// A process is in the scope until the last of its threads has ended, in whatever
// order they do and however far each has come when the next one begins. Then its id
// and its root are somebody else's.
func TestLifeThreads(t *testing.T) {
	each(t, 2, func(w *world, o ScopeOptions) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 30 {
			w.pid = 2000
			p := w.process("subject")
			threads := []*thread{p, w.newThread(p, nil, "worker"), w.newThread(p, nil, "worker")}
			w.start(Process{PID: p.TGID}, o)
			w.run(1, threads[1])
			threads = append(threads, w.fork(1, clones))
			for len(threads) > 0 {
				i, v := r.IntN(len(threads)), xen.VCPU(r.IntN(2))
				switch th := threads[i]; {
				case th.ended == 0 && r.IntN(3) > 0:
					w.calls(v, th, true)
				case !w.exit(v, th):
					threads = slices.Delete(threads, i, i+1)
				}
			}
			w.pid = 2000
			stranger := w.process("stranger")
			w.calls(0, stranger, false)
			w.end(0, stranger)
			w.close(nil)
		}
	})
}

// The main thread has ended when the scope starts, and the process has not.
func TestLifeMainThreadGone(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		worker := w.newThread(p, nil, "worker")
		for range 3 {
			w.exit(0, p) // a zombie
		}
		w.start(Process{PID: p.TGID}, o)
		w.calls(0, worker, true)
		w.end(0, worker, p)
		w.close(nil)
	})
}

// A process that is ending when the scope starts would never be seen to end.
func TestLifeEndingAtStart(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		w.exit(0, p)
		w.exit(0, p)
		s := w.open(Process{PID: p.TGID}, o)
		if err := s.Start(); !errors.Is(err, ErrNoProcess) {
			w.t.Errorf("Start: %v", err)
		}
		w.scoped()
		w.exit(0, p)
		w.exit(0, p)
		w.rest(0)
		w.close(nil)
	})
}

// By name, a process comes with the program that it executes, and is left at the
// next hit after it has executed another. What it forks meanwhile has the other
// name.
func TestLifeNames(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		there := w.process("subject")
		shell := w.process("shell")
		w.start(Process{Comm: "subject"}, o)
		w.scoped(there)
		w.calls(0, there, true)
		w.calls(0, shell, false)

		comes := w.fork(0, forks)
		w.calls(0, comes, false)
		w.exec(0, "subject", true)
		w.calls(0, comes, true)
		child := w.fork(0, forks) // has the name
		w.calls(0, child, true)

		w.run(0, comes)
		w.exec(0, "other", true)
		w.scoped(there, comes, child)
		stray := w.fork(0, forks) // of one that is leaving
		w.calls(0, stray, false)
		w.calls(0, comes, true) // the return of execve
		w.calls(0, comes, false)
		w.scoped(there, child)
		again := w.fork(0, forks) // of one that has left
		w.calls(0, again, false)
		w.exec(0, "subject", true) // it comes by itself
		w.calls(0, again, true)

		// To another program and back, without a hit in between.
		w.run(0, there)
		w.exec(0, "other", true)
		w.exec(0, "subject", true)
		w.calls(0, there, true)
		w.calls(0, there, true)
		// One that leaves by ending.
		w.run(0, child)
		w.exec(0, "other", true)
		w.end(0, child)
		w.scoped(there, again)
		w.end(0, there, shell, comes, stray, again)
		w.close(nil)
	})
}

// A filter that is full leaves processes out, says so, and has room again when
// others end. A program that is executed needs no more room.
func TestLifeNoRoom(t *testing.T) {
	with(t, []Mechanism{FilteredByXen}, 1, func(w *world, o ScopeOptions) {
		o.Follow = true
		w.room = 2
		p := w.process("subject")
		w.start(Process{PID: p.TGID}, o)
		w.run(0, p)
		second := w.fork(0, forks)
		w.run(0, p)
		third := w.fork(0, forks)
		if n := w.scope.unfollowed.Load(); n != 1 {
			w.t.Errorf("%d processes not followed, want 1", n)
		}
		w.calls(0, third, false)
		w.calls(0, second, true)
		w.exec(0, "other", true)
		w.calls(0, second, true)
		w.scoped(p, second)
		w.end(0, second)
		w.run(0, p)
		fourth := w.fork(0, forks)
		w.calls(0, fourth, true)
		// A child shares its parent's root, and has no room for one of its own.
		fifth := w.fork(0, vforks)
		w.calls(0, fifth, true)
		w.exec(0, "other", true)
		w.calls(0, fifth, false)
		w.calls(0, fourth, true)
		if n := w.scope.unfollowed.Load(); n != 2 {
			w.t.Errorf("%d processes not followed, want 2", n)
		}
		w.scoped(p, fourth)
		w.end(0, third, fourth, fifth, p)
		w.close(xen.ErrNoSpace)
	})
}

// A process that executes a program of which nothing can be read is let go, since
// nobody would tell when its page tables go.
func TestLifeUnreadable(t *testing.T) {
	with(t, []Mechanism{FilteredByXen, FilteredHere}, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		w.start(Process{PID: p.TGID}, o)
		w.calls(0, p, true)
		w.call(0, execFunc, 0x1000) // not the kernel's
		w.scoped()
		w.calls(0, p, false)
		w.end(0, p)
		if err := w.scope.Close(); err == nil || w.scope.unfollowed.Load() != 1 {
			w.t.Errorf("Close: %v, %d processes not followed", err, w.scope.unfollowed.Load())
		}
	})
}

// Processes come and go at random on two vCPUs, in the scope and beside it; roots
// are used again at once. Each call of those in the scope is counted, no other is,
// and no root is watched when the kernel frees it.
func TestLifeStorm(t *testing.T) {
	each(t, 2, func(w *world, o ScopeOptions) {
		o.Follow = true
		r := rand.New(rand.NewPCG(5, 6))
		first := w.process("subject")
		stranger := w.process("stranger")
		w.start(Process{PID: first.TGID}, o)
		in := map[*thread]bool{first: true, stranger: false}
		all := []*thread{first, stranger}
		var ending []*thread
		for range 3000 {
			v := xen.VCPU(r.IntN(2))
			i := r.IntN(len(all))
			th := all[i]
			alone := th.Signal.Live == 1
			switch n := r.IntN(20); {
			case n < 8:
				w.calls(v, th, in[th])
			case n < 11 && len(all) < 20:
				w.run(v, th)
				child := w.fork(v, n-8)
				in[child] = in[th]
				all = append(all, child)
			case n == 11 && alone:
				w.run(v, th)
				w.exec(v, "other", r.IntN(3) > 0)
			case n == 12 && len(all) > 2 && th != stranger:
				all = slices.Delete(all, i, i+1)
				ending = append(ending, th)
			case n > 12 && len(ending) > 0:
				i := r.IntN(len(ending))
				if !w.exit(v, ending[i]) {
					ending = slices.Delete(ending, i, i+1)
				}
			}
		}
		w.end(0, append(ending, all...)...)
		if stats, err := w.scope.Stats(); err != nil || stats.Hits == 0 || stats.Hooks == 0 || stats.Unfollowed != 0 {
			w.t.Errorf("%+v, %v", stats, err)
		}
		w.close(nil)
	})
}

// A hit of a process of the scope, among many, allocates nothing, and neither does
// its coming and going.
func TestEventsAllocateNothing(t *testing.T) {
	each(t, 1, func(w *world, o ScopeOptions) {
		p := w.process("subject")
		w.start(Process{PID: p.TGID}, o)
		for i := range int32(1000) {
			w.scope.life.members.put(number(100_000+i), false)
		}
		w.calls(0, p, true)
		va := w.Symbol(syscallFunc)
		gfn, _ := w.fetch(0, va)
		hit := xen.Request{
			Reason: xen.ReasonSoftwareBreakpoint, View: w.cpus[0].view, Breakpoint: xen.SoftwareBreakpoint{GFN: gfn},
			Regs: xen.Registers{GS: xen.Segment{Base: uint64(w.SetCurrent(p.Addr))}},
		}
		leave, enter := write(0, uint64(p.Space.Root), uint64(idleRoot)), write(0, uint64(idleRoot), uint64(p.Space.Root))
		before := w.hits[p.TGID]
		if n := testing.AllocsPerRun(100, func() {
			hit.Regs.RIP = uint64(va)
			w.handle(&hit)
			w.handle(leave)
			w.handle(enter)
		}); n != 0 || w.hits[p.TGID] <= before {
			w.t.Errorf("%v allocations for each of %d hits", n, w.hits[p.TGID]-before)
		}
	})
}
