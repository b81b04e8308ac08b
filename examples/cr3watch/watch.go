package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// watched is one of the chosen processes.
type watched struct {
	pid     int32
	name    string
	task    linux.Task
	entered int
	since   map[xen.VCPU]time.Time // when a vCPU entered
	ran     time.Duration
	gone    bool
}

// watch follows the switches of the chosen processes.
type watch struct {
	kernel *linux.Kernel
	filter *cr3filter.Filter
	quiet  bool
	now    func() time.Time
	begun  time.Time

	mu    sync.Mutex
	procs map[vmi.PhysAddr]*watched // by root
	lines []byte                    // not written yet
	lost  int                       // lines, for whoever reads them being slow
}

// maxLines bounds what waits for whoever reads the lines.
const maxLines = 1 << 20

// find returns the processes that o names.
func find(k *linux.Kernel, o options) (tasks []linux.Task, err error) {
	if o.comm != "" {
		tasks, err = k.TasksByComm(o.comm)
		if errors.Is(err, linux.ErrNoTask) {
			return nil, fmt.Errorf("-comm %s: the guest has no such process", o.comm)
		}
		return tasks, err
	}
	for _, pid := range o.pids {
		t, err := k.TaskByPID(pid)
		if errors.Is(err, linux.ErrNoTask) {
			return nil, fmt.Errorf("-pid %d: the guest has no such process", pid)
		}
		if err != nil {
			return nil, fmt.Errorf("-pid %d: %w", pid, err)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// add watches a process.
func (w *watch) add(t linux.Task) error {
	pid, err := t.TGID()
	if err != nil {
		return err
	}
	comm, err := t.Comm()
	if err != nil {
		return err
	}
	root, err := t.Root()
	if errors.Is(err, linux.ErrNoMM) {
		return fmt.Errorf("process %d is a kernel thread or has exited: it has no page tables", pid)
	}
	if err != nil {
		return err
	}
	p := &watched{pid: pid, name: session.Printable(comm.String()), task: t, since: map[xen.VCPU]time.Time{}}
	w.mu.Lock()
	w.procs[w.filter.Masked(root)] = p
	w.mu.Unlock()
	if err := w.filter.Watch(root); err != nil && !errors.Is(err, xen.ErrExists) {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	return nil
}

// switched is called while the vCPU waits.
func (w *watch) switched(s cr3filter.Switch) xen.Response {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if p := w.procs[s.From]; p != nil {
		if at, ok := p.since[s.VCPU]; ok {
			p.ran += now.Sub(at)
			delete(p.since, s.VCPU)
		}
	}
	if p := w.procs[s.To]; p != nil {
		p.entered++
		p.since[s.VCPU] = now
	}
	switch {
	case w.quiet:
	case len(w.lines) >= maxLines:
		w.lost++
	default:
		w.lines = fmt.Appendf(w.lines, "%12.6f vCPU %d: %s -> %s\n", now.Sub(w.begun).Seconds(), s.VCPU, w.label(s.From), w.label(s.To))
	}
	return xen.Response{}
}

func (w *watch) label(root vmi.PhysAddr) string {
	if p := w.procs[root]; p != nil {
		return fmt.Sprintf("%s[%d]", p.name, p.pid)
	}
	return "others"
}

// prune drops the processes that have ended, whose roots the guest may use for
// others, and returns how many are left.
func (w *watch) prune() (int, error) {
	var errs []error
	left := 0
	for root, p := range w.all() {
		if w.ended(root, p) {
			w.mu.Lock()
			p.gone = true
			w.mu.Unlock()
			errs = append(errs, w.filter.Unwatch(vmi.CR3(root)))
		} else {
			left++
		}
	}
	return left, errors.Join(errs...)
}

// all returns the processes that have not ended.
func (w *watch) all() map[vmi.PhysAddr]*watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := maps.Clone(w.procs)
	maps.DeleteFunc(m, func(_ vmi.PhysAddr, p *watched) bool { return p.gone })
	return m
}

// ended reports that a process is no more, or runs on other page tables. A list
// of tasks that changes while it is read proves nothing.
func (w *watch) ended(root vmi.PhysAddr, p *watched) bool {
	t, err := w.kernel.TaskByPID(p.pid)
	if err != nil {
		return errors.Is(err, linux.ErrNoTask)
	}
	now, err := t.Root()
	return errors.Is(err, linux.ErrNoMM) || err == nil && w.filter.Masked(now) != root
}

// flush writes the lines that wait.
func (w *watch) flush(out io.Writer) error {
	w.mu.Lock()
	lines := w.lines
	w.lines = nil
	w.mu.Unlock()
	if len(lines) == 0 {
		return nil
	}
	_, err := out.Write(lines)
	return err
}

// summary prints the counts.
func (w *watch) summary(out io.Writer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	procs := slices.SortedFunc(maps.Values(w.procs), func(a, b *watched) int { return int(a.pid - b.pid) })
	for _, p := range procs {
		state := ""
		if p.gone {
			state = ", ended"
		}
		if _, err := fmt.Fprintf(out, "%s[%d]: entered %d times, ran %.6f s%s\n", p.name, p.pid, p.entered, p.ran.Seconds(), state); err != nil {
			return err
		}
	}
	if w.lost > 0 {
		_, err := fmt.Fprintf(out, "%d switches were counted but not printed: the output is too slow\n", w.lost)
		return err
	}
	return nil
}
