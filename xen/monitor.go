package xen

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/evtchn"
)

// MonitorOptions configure [Domain.OpenMonitor]. There is nothing to choose
// yet.
type MonitorOptions struct{}

// Monitor is a domain's monitor ring: it gets the requests and answers them.
// A domain has one ring, so one monitor at a time.
//
// Enabling and disabling events may be done from any goroutine, a handler
// included. Serve, Drain and Close exclude each other; Close ends a running
// Serve, so a handler must not call it.
type Monitor struct {
	dom  *Domain
	lock io.Closer
	tr   transport

	events events

	serving sync.Mutex  // held by who uses tr
	closing atomic.Bool // Serve has to return

	closeOnce sync.Once
	closeErr  error
}

// OpenMonitor attaches to the domain's monitor ring. No event is enabled yet,
// and the guest runs. The caller closes the monitor on every way out; a
// monitor that dies without leaves the ring taken and every vCPU that waits for
// its answer frozen, until [Domain.RecoverMonitor]. Where /run does not take the
// lock that tells a live monitor from a dead one, it goes on without: see to it
// that nobody recovers the domain meanwhile.
//
// The domain must be an HVM or PVH guest with hardware-assisted paging. The
// error matches [ErrBusy] if the ring is taken.
func (d *Domain) OpenMonitor(opts *MonitorOptions) (m *Monitor, err error) {
	if err := d.monitorable(); err != nil {
		return nil, err
	}
	if taken, err := d.ringTaken(); err == nil && taken {
		return nil, d.busy(nil)
	}

	lock, err := d.lockMonitor()
	if errors.Is(err, device.ErrLocked) {
		return nil, d.busy(err)
	}
	// Without a lock, Xen still lets only one have the ring.
	var undo undoList
	defer func() {
		if err != nil {
			m, err = nil, errors.Join(err, undo.run())
		}
	}()
	undo.add(lock.Close)

	// Paused, the guest cannot scribble on the page while it is still its own.
	if err := d.Pause(); err != nil {
		return nil, err
	}
	undo.add(d.Unpause)
	a, err := d.attachRing(&undo)
	if err != nil {
		return nil, err
	}
	dev, err := openDevice(d.hyp.devices, device.Evtchn)
	if err != nil {
		return nil, err
	}
	ch, err := evtchn.Bind(dev, uint16(d.id), a.port)
	if err != nil {
		return nil, d.fail("bind the event channel", err, "")
	}
	undo.add(func() error { return d.fail("unbind the event channel", ch.Close(), "") })

	// From here on the page is Xen's and ours alone.
	if err := a.takePage(); err != nil {
		return nil, err
	}
	tr := &ringTransport{ring: a.ring, dom: d, mem: a.mem, ch: ch}
	m = &Monitor{dom: d, lock: lock, tr: tr, events: events{dom: d, steps: &a.ring.steps}}
	if err := d.Unpause(); err != nil {
		return nil, err
	}
	d.hyp.monitors.opened(d.id)
	return m, nil
}

// Domain returns the domain that is monitored.
func (m *Monitor) Domain() *Domain { return m.dom }

// monitorable tells, in words, why this domain cannot have a monitor.
func (d *Domain) monitorable() error {
	const op = "open monitor"
	if d.hyp.vmEvent == 0 {
		return d.hyp.vmEventErr
	}
	info, err := d.Info()
	switch {
	case err != nil:
		return err
	case info.Dying:
		return fault(op, d.id, ErrNoDomain, "the domain is being destroyed")
	case d.id == 0:
		return fault(op, d.id, ErrNotSupported, "a control domain cannot monitor itself")
	case !info.HVM:
		return fault(op, d.id, ErrNotSupported, `PV guests cannot be monitored: use type="pvh" or type="hvm"`)
	case !info.HAP:
		return fault(op, d.id, ErrNotSupported, "the guest runs on shadow page tables: set hap=1 in its configuration")
	}
	return nil
}

// MonitorState says who has a domain's monitor ring.
type MonitorState int

// The states.
const (
	MonitorFree MonitorState = iota // nobody: OpenMonitor can have it
	// MonitorAttached: a [Monitor] of a program that lives, on this machine.
	MonitorAttached
	// MonitorLeftBehind: there is a ring and no such program. Its monitor died,
	// and [Domain.RecoverMonitor] brings the domain back; or it is no [Monitor]
	// or runs in another domain, and cannot be told from a dead one.
	MonitorLeftBehind
)

func (s MonitorState) String() string {
	switch s {
	case MonitorFree:
		return "free"
	case MonitorAttached:
		return "attached"
	case MonitorLeftBehind:
		return "left behind"
	}
	return fmt.Sprintf("monitor state %d", int(s))
}

// MonitorState asks who has the domain's monitor ring. The errors are those of
// OpenMonitor for domains that cannot be monitored.
func (d *Domain) MonitorState() (MonitorState, error) {
	if err := d.monitorable(); err != nil {
		return MonitorFree, err
	}
	taken, err := d.ringTaken()
	if err != nil {
		return MonitorFree, d.fail("vm_event resume", err, "")
	}
	if !taken {
		_, err := d.ringGFN()
		return MonitorFree, err
	}
	lock, err := d.lockMonitor()
	switch {
	case errors.Is(err, device.ErrLocked):
		return MonitorAttached, nil
	case err != nil:
		return MonitorFree, d.fail("lock the monitor", err, "cannot tell whether its monitor is alive: run as root in dom0, with /run writable")
	}
	return MonitorLeftBehind, d.fail("unlock the monitor", lock.Close(), "")
}

// ringTaken says whether there is a ring. RESUME tells without touching the
// guest: it makes Xen look for answers, which does a monitor no harm.
func (d *Domain) ringTaken() (bool, error) {
	_, err := d.hyp.conn.VMEvent(uint16(d.id), abi.VMEventResume)
	if errors.Is(err, syscall.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

func (d *Domain) busy(err error) error {
	return &Error{Op: "open monitor", Domain: d.id, Errno: syscall.EBUSY, cause: err,
		Advice: "another monitor is attached, or one died: end it; if there is none, RecoverMonitor brings the domain back"}
}

// Close detaches from the ring and leaves the guest running: events are
// disabled, pending requests answered with a plain continue, stepping vCPUs
// stopped from it, the ring, the mapping and the event channel released. A
// filter of CR3 writes goes with the ring, and then the pages that are to be
// removed (see [Domain.RemoveFrame]). It goes on after errors and returns
// them all, except for those of a hypervisor that no longer knows the domain.
// A Serve that runs is ended first. Close is idempotent.
//
// Breakpoints in the guest's memory and altp2m views are their owner's to
// remove before.
func (m *Monitor) Close() error {
	m.closeOnce.Do(func() {
		m.closing.Store(true)
		m.tr.wake() // fails only where there is no wait to end
		m.serving.Lock()
		defer m.serving.Unlock()
		m.closeErr = m.shut()
	})
	return m.closeErr
}

func (m *Monitor) shut() error {
	d := m.dom
	var hyp, local []error

	paused := d.Pause()
	hyp = append(hyp, paused)
	hyp = append(hyp, m.events.disableAll())
	// The vCPUs stand still, so nothing new arrives after this.
	if _, err := m.drain(); err != nil {
		// The answers may be there and only the notification failed.
		hyp = append(hyp, err, m.tr.rescue())
	}
	// After the last answer, which may have toggled it.
	hyp = append(hyp, m.events.stopStepping(), m.events.restoreAccess())
	err := m.tr.detach()
	hyp = append(hyp, err)
	for _, gfn := range d.hyp.monitors.closed(d.id) {
		if err == nil {
			hyp = append(hyp, d.removeFrame(gfn))
		}
	}
	local = append(local, m.tr.release())
	local = append(local, d.fail("unlock the monitor", m.lock.Close(), ""))
	if paused == nil {
		hyp = append(hyp, d.Unpause())
	}

	if err := errors.Join(hyp...); err != nil && d.gone() == nil {
		local = append(local, err)
	}
	if err := errors.Join(local...); err != nil {
		return fmt.Errorf("close monitor: %w", err)
	}
	return nil
}
