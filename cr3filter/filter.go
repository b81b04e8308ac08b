package cr3filter

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Config is what a [Filter] compares.
type Config struct {
	// Ignore are the bits of CR3 that do not tell processes apart. A mask that
	// is too wide merges processes: with KPTI's in a guest without KPTI, those
	// whose roots are neighbouring frames.
	Ignore uint64
	// Halves are those of the bits in Ignore that tell the two roots of one
	// process apart. Xen needs them for the CR3-target list.
	Halves uint64
	// Members has only switches reported that enter or leave the set of watched
	// processes, none between two of them.
	Members bool
	// Mechanisms are those that may be used, the first that there is; nil is
	// [FilteredByXen], [FilteredHere].
	Mechanisms []Mechanism
	// AllWrites has every CR3 write come to the monitor with [FilteredHere], also
	// those that change nothing but bits in Ignore, as KPTI's flips do. It is for
	// comparison with monitors that do without Xen's mask.
	AllWrites bool
	// NoTargetList does without the processor's CR3-target list, which saves
	// exits on Intel.
	NoTargetList bool
}

// Linux returns the configuration for a guest with or without KPTI, see
// linux.Kernel.KPTI. With it the user's root is the kernel's with bit 12 set,
// and bit 11 tells their PCIDs apart (arch/x86/mm/tlb.c).
func Linux(kpti bool) Config {
	if kpti {
		return Config{Ignore: 0x1fff, Halves: 0x1800}
	}
	return Config{Ignore: 0xfff}
}

// ErrRoot reports a value that is no page-table root.
var ErrRoot = errors.New("not a page-table root")

// Switch is a vCPU's change from one root to another, both masked.
type Switch struct {
	VCPU     xen.VCPU
	From, To vmi.PhysAddr
}

// Filter reports the switches to and from watched processes. Watch and Unwatch
// may be called from any goroutine, the callback included.
type Filter struct {
	mon       Monitor
	config    Config
	mechanism Mechanism
	targets   bool
	notify    func(Switch) xen.Response

	mu      sync.Mutex // serialises changes; Handle takes no lock
	watched *table     // masked roots
	closed  bool
	final   xen.CR3FilterInfo // Xen's counts when the filter was closed

	events, switches atomic.Uint64
}

// Stats counts CR3 writes.
type Stats struct {
	// Events reached the monitor; Switches are those of them that were
	// reported.
	Events, Switches uint64
	// Dropped were intercepted by Xen's filter and not sent to the monitor.
	// Writes that the CR3-target list let pass are counted nowhere, nor are those
	// that [FilteredHere] has Xen's mask drop.
	Dropped uint64
}

// Open starts a filter that watches nothing yet. It calls notify for each
// switch, while the vCPU waits, and answers the event with what it returns.
// Handle must be served. The error matches [xen.ErrNotSupported] if there is
// none of the mechanisms.
func Open(mon Monitor, c Config, notify func(Switch) xen.Response) (*Filter, error) {
	if len(c.Mechanisms) == 0 {
		c.Mechanisms = []Mechanism{FilteredByXen, FilteredHere}
	}
	m, info, err := choose(mon, c.Mechanisms)
	if err != nil {
		return nil, fmt.Errorf("watch page-table roots: %w", err)
	}
	if m == EveryHit {
		return nil, fmt.Errorf("watch page-table roots by %v: %w", m, errors.ErrUnsupported)
	}
	f := &Filter{mon: mon, config: c, mechanism: m, notify: notify, watched: newTable()}
	if m == FilteredByXen {
		f.targets = info.TargetListAvailable && !c.NoTargetList
		o := xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: c.Ignore, TargetList: f.targets}
		if c.Members {
			o.Mode = xen.CR3FilterMember
		}
		if f.targets {
			o.Halves = c.Halves
		}
		if err := mon.SetCR3Filter(o); err != nil {
			return nil, fmt.Errorf("watch page-table roots: %w", err)
		}
	}
	// The filter is there first, so that not one event comes without it.
	events := &xen.CtrlRegOptions{IgnoreBits: c.Ignore}
	if c.AllWrites {
		events.IgnoreBits = 0
	}
	if err := mon.EnableCtrlReg(xen.CR3, events); err != nil {
		err = fmt.Errorf("watch page-table roots: %w", err)
		if m == FilteredByXen {
			err = errors.Join(err, mon.SetCR3Filter(xen.CR3FilterOptions{}))
		}
		return nil, err
	}
	return f, nil
}

// Mechanism returns what the filter uses.
func (f *Filter) Mechanism() Mechanism { return f.mechanism }

// TargetList reports whether the processor's CR3-target list is in use.
func (f *Filter) TargetList() bool { return f.targets }

// Masked returns what is compared of a root.
func (f *Filter) Masked(c vmi.CR3) vmi.PhysAddr { return vmi.CR3(uint64(c) &^ f.config.Ignore).Root() }

// Watched reports whether a root is watched. It takes no lock.
func (f *Filter) Watched(c vmi.CR3) bool { return f.watches(f.Masked(c)) }

func (f *Filter) watches(root vmi.PhysAddr) bool {
	_, in := f.watched.get(uint64(root))
	return in
}

// Watch adds the process with root c. The error matches [ErrRoot] for a value
// that CR3 cannot hold, [xen.ErrExists] for a root that is watched already,
// [xen.ErrNoSpace] if Xen has no room for more.
func (f *Filter) Watch(c vmi.CR3) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	root, err := f.root("watch", c)
	if err != nil {
		return err
	}
	if f.closed {
		return fmt.Errorf("watch root %v: %w", root, os.ErrClosed)
	}
	if f.watches(root) {
		return fmt.Errorf("watch root %v: it %w", root, xen.ErrExists)
	}
	// Known here before the first event can come.
	f.watched.put(uint64(root), false)
	if f.mechanism == FilteredByXen {
		if err := f.mon.AddCR3(uint64(root)); err != nil {
			f.watched.remove(uint64(root))
			return fmt.Errorf("watch root %v: %w", root, err)
		}
	}
	return nil
}

// Unwatch removes the process with root c. A process that exits is to be
// removed before its root's frame is used again. The error matches
// [xen.ErrNotFound] if it is not watched.
func (f *Filter) Unwatch(c vmi.CR3) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	root, err := f.root("unwatch", c)
	if err != nil {
		return err
	}
	if f.closed {
		return fmt.Errorf("unwatch root %v: %w", root, os.ErrClosed)
	}
	if !f.watches(root) {
		return fmt.Errorf("unwatch root %v: %w", root, xen.ErrNotFound)
	}
	if f.mechanism == FilteredByXen {
		if err := f.mon.RemoveCR3(uint64(root)); err != nil {
			return fmt.Errorf("unwatch root %v: %w", root, err)
		}
	}
	f.watched.remove(uint64(root))
	return nil
}

// root checks a root given by the caller.
func (f *Filter) root(op string, c vmi.CR3) (vmi.PhysAddr, error) {
	// Bit 63 is a flag of the instruction, not of the register.
	if uint64(c)&^(1<<63)>>52 != 0 {
		return 0, fmt.Errorf("%s root %#x: %w", op, uint64(c), ErrRoot)
	}
	return f.Masked(c), nil
}

// Handle answers one CR3 write; set it as CR3's handler of a [vmi.Loop]. It
// allocates nothing.
func (f *Filter) Handle(r *xen.Request) xen.Response {
	f.events.Add(1)
	s := Switch{VCPU: r.VCPU, From: f.Masked(vmi.CR3(r.Ctrl.Old)), To: f.Masked(vmi.CR3(r.Ctrl.New))}
	if s.From == s.To {
		return xen.Response{}
	}
	from, to := f.watches(s.From), f.watches(s.To)
	if !from && !to || f.config.Members && from && to {
		return xen.Response{}
	}
	f.switches.Add(1)
	return f.notify(s)
}

// Stats returns the counts so far, also after Close.
func (f *Filter) Stats() (Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Stats{Events: f.events.Load(), Switches: f.switches.Load()}
	if f.mechanism != FilteredByXen {
		return s, nil
	}
	info := f.final
	if !f.closed {
		var err error
		if info, err = f.mon.CR3Filter(); err != nil {
			return s, err
		}
	}
	s.Dropped = info.Dropped
	return s, nil
}

// Close ends the events. It is idempotent. A domain that is gone is no error.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	var errs []error
	if f.mechanism == FilteredByXen {
		var err error
		f.final, err = f.mon.CR3Filter()
		errs = append(errs, err)
	}
	// Xen's filter goes with the events; without it all would come for a moment.
	errs = append(errs, f.mon.DisableCtrlReg(xen.CR3))
	for _, err := range errs {
		if err != nil && !errors.Is(err, xen.ErrNoDomain) {
			return fmt.Errorf("stop watching page-table roots: %w", errors.Join(errs...))
		}
	}
	return nil
}
