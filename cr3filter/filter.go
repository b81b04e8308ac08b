// Package cr3filter tells which process a vCPU runs, by the page-table roots
// that it loads.
//
// A process is a set of roots: under kernel page-table isolation (KPTI) Linux
// gives it two that differ in bit 12, and bits 0-11 hold the PCID, so a root
// is compared under a mask. Xen reports every CR3 write of the guest whose
// unmasked bits change; the filter runs here, in the monitor, and works on any
// Xen from 4.14 on.
package cr3filter

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// The bits of CR3 that do not tell processes apart.
const (
	// IgnorePCID masks the PCID: for guests without KPTI.
	IgnorePCID uint64 = 0xfff
	// IgnoreKPTI also masks the bit that tells the kernel's page tables from
	// the user's. In a guest without KPTI it would merge two processes whose
	// roots are neighbouring frames.
	IgnoreKPTI uint64 = 0x1fff
)

// Monitor is what the filter needs of a [xen.Monitor].
type Monitor interface {
	EnableCtrlReg(reg xen.CtrlReg, o *xen.CtrlRegOptions) error
	DisableCtrlReg(reg xen.CtrlReg) error
}

// Switch is a vCPU's change from one root to another, both masked.
type Switch struct {
	VCPU     xen.VCPU
	From, To vmi.PhysAddr
}

// Filter reports the switches to and from watched processes. Watch and Unwatch
// may be called from any goroutine, the callback included.
type Filter struct {
	mon    Monitor
	ignore uint64
	notify func(Switch)

	mu      sync.Mutex // serialises changes; Handle takes no lock
	watched atomic.Pointer[map[vmi.PhysAddr]struct{}]

	seen, forwarded atomic.Uint64
}

// Stats counts CR3 writes: those that reached the monitor, and those of them
// that concerned a watched process.
type Stats struct {
	Seen, Forwarded uint64
}

// New returns a filter that calls notify for each switch from or to a watched
// process, while the vCPU waits. Bits set in ignore are not compared.
func New(mon Monitor, ignore uint64, notify func(Switch)) *Filter {
	f := &Filter{mon: mon, ignore: ignore, notify: notify}
	f.watched.Store(&map[vmi.PhysAddr]struct{}{})
	return f
}

func (f *Filter) masked(v uint64) vmi.PhysAddr {
	return vmi.CR3(v &^ f.ignore).Root()
}

// Watch adds the process with root c.
func (f *Filter) Watch(c vmi.CR3) { f.change(c, true) }

// Unwatch removes the process with root c; unknown roots are ignored. A
// process that exits is to be removed: its root's frame is used again.
func (f *Filter) Unwatch(c vmi.CR3) { f.change(c, false) }

func (f *Filter) change(c vmi.CR3, in bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := maps.Clone(*f.watched.Load())
	if in {
		next[f.masked(uint64(c))] = struct{}{}
	} else {
		delete(next, f.masked(uint64(c)))
	}
	f.watched.Store(&next)
}

// Start makes Xen report CR3 writes. Handle must be served.
func (f *Filter) Start() error {
	err := f.mon.EnableCtrlReg(xen.CR3, &xen.CtrlRegOptions{IgnoreBits: f.ignore})
	if err != nil {
		return fmt.Errorf("watch page-table roots: %w", err)
	}
	return nil
}

// Stop makes Xen stop reporting CR3 writes.
func (f *Filter) Stop() error {
	if err := f.mon.DisableCtrlReg(xen.CR3); err != nil {
		return fmt.Errorf("stop watching page-table roots: %w", err)
	}
	return nil
}

// Handle answers one CR3 write; set it as CR3's handler of a [vmi.Loop]. It
// allocates nothing.
func (f *Filter) Handle(r *xen.Request) xen.Response {
	f.seen.Add(1)
	s := Switch{VCPU: r.VCPU, From: f.masked(r.Ctrl.Old), To: f.masked(r.Ctrl.New)}
	if s.From == s.To {
		return xen.Response{}
	}
	watched := *f.watched.Load()
	_, from := watched[s.From]
	_, to := watched[s.To]
	if from || to {
		f.forwarded.Add(1)
		f.notify(s)
	}
	return xen.Response{}
}

// Stats returns the counts so far.
func (f *Filter) Stats() Stats {
	return Stats{Seen: f.seen.Load(), Forwarded: f.forwarded.Load()}
}
