package main

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// traced are the system calls whose handlers have breakpoints: the paper's,
// where open and close take in openat.
var traced = []string{"read", "write", "open", "openat", "close", "execve"}

// calls attributes the hits of the calls' handlers to processes.
type calls struct {
	watch  *watch
	kernel *linux.Kernel
	fd     linux.Field // pt_regs.di, the calls' first argument
	pid    int32
}

func newCalls(w *watch, t *target, pid int) (*calls, error) {
	fd, err := t.kernel.Field("pt_regs.di")
	if err != nil {
		return nil, err
	}
	return &calls{watch: w, kernel: t.kernel, fd: fd, pid: int32(pid)}, nil
}

// hit counts one execution of a call's handler, which takes the address of the
// saved registers as its argument.
func (c *calls) hit(call string, r *xen.Request) {
	task, err := c.kernel.CurrentTask(&r.Regs)
	c.hitBy(task, err, call, r)
}

// hitBy is hit by a thread that is known, unless err.
func (c *calls) hitBy(task linux.Task, err error, call string, r *xen.Request) {
	c.watch.count(func(n *table1.Counts) error {
		n.Syscalls++
		if err != nil {
			return err
		}
		pid, err := task.TGID()
		if err != nil || pid != c.pid || call != "read" && call != "write" {
			return err
		}
		fd, err := c.fd.Uint(c.kernel.AddressSpace(), vmi.VirtAddr(r.Regs.RDI))
		if err != nil {
			return err
		}
		if call == "read" {
			n.Kernel.Reads++
			if fd == ownReads {
				n.Own.Reads++
			}
			return nil
		}
		n.Kernel.Writes++
		if fd == ownWrites {
			n.Own.Writes++
		}
		return nil
	})
}

// handlers returns the addresses of the calls' handlers by the calls' names.
func handlers(k *linux.Kernel) (map[string]vmi.VirtAddr, error) {
	table, err := k.Syscalls()
	if err != nil {
		return nil, err
	}
	entries := make(map[string]vmi.VirtAddr, len(traced))
	for _, name := range traced {
		call, ok := table.Name(name)
		if !ok {
			return nil, fmt.Errorf("the guest's kernel has no system call %s", name)
		}
		entries[name] = call.Entry
	}
	return entries, nil
}

// attachBreakpoints is method 2.
func attachBreakpoints(t *target, pid int) (probe, error) {
	return attachHandlers(t, pid, func(w *watch) error { return nil }, func(*breakpoint.Breakpoint) xen.Response { return xen.Response{} })
}

// attachHandlers has breakpoints on the calls' handlers, for all processes.
// prepare is called before there are events, answer for each hit.
func attachHandlers(t *target, pid int, prepare func(*watch) error, answer func(*breakpoint.Breakpoint) xen.Response) (_ probe, err error) {
	w, err := newWatch(t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	c, err := newCalls(w, t, pid)
	if err != nil {
		return nil, err
	}
	entries, err := handlers(t.kernel)
	if err != nil {
		return nil, err
	}
	if err := prepare(w); err != nil {
		return nil, err
	}
	if err := w.breakpoints(); err != nil {
		return nil, err
	}
	for name, entry := range entries {
		var b atomic.Pointer[breakpoint.Breakpoint]
		at, err := w.engine.Insert(t.kernel.AddressSpace(), entry, func(r *xen.Request) xen.Response {
			c.hit(name, r)
			if at := b.Load(); at != nil {
				return answer(at)
			}
			return xen.Response{} // so early that Insert has not returned
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.Store(at)
	}
	return w, nil
}

// breakpoints begins to serve the engine's events.
func (w *watch) breakpoints() error {
	if err := w.loop.OnSoftwareBreakpoint(w.engine.Handle); err != nil {
		return err
	}
	w.serve()
	return w.mon.EnableSoftwareBreakpoint()
}
