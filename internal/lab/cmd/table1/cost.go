package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/xen"
)

// cost is the measurement of one kind of event, by a loop of system calls that
// do nothing else.
type cost struct {
	what      string // one of package table1's
	mechanism string
	entries   int // watched roots
	calls     int // of getppid; under KPTI each writes CR3 twice
	attach    func(t *target) (probe, error)
	// events picks the events out of what the probe saw.
	events func(table1.Counts) uint64
}

var costs = []cost{
	{what: table1.CostHit, mechanism: "patched byte on an instruction that does nothing, which is skipped", calls: 2000, attach: attachHits, events: hits},
	{what: table1.CostForwarded, mechanism: "no filter", calls: 2000, attach: attachForwarding, events: cr3Events},
	{what: table1.CostDropped, entries: 1, calls: 100_000, attach: attachDropping(1), events: cr3Dropped},
	{what: table1.CostDropped, entries: 16, calls: 100_000, attach: attachDropping(16), events: cr3Dropped},
	{what: table1.CostDropped, entries: 256, calls: 100_000, attach: attachDropping(256), events: cr3Dropped},
}

func hits(c table1.Counts) uint64       { return c.Syscalls }
func cr3Events(c table1.Counts) uint64  { return c.CR3Events }
func cr3Dropped(c table1.Counts) uint64 { return *c.CR3Dropped }

// attachHits has a breakpoint on the loop's call, which counts and no more.
func attachHits(t *target) (_ probe, err error) {
	w, err := newWatch(t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	table, err := t.kernel.Syscalls()
	if err != nil {
		return nil, err
	}
	call, ok := table.Name("getppid")
	if !ok {
		return nil, errors.New("the guest's kernel has no system call getppid")
	}
	if err := w.breakpoints(); err != nil {
		return nil, err
	}
	_, err = w.engine.Insert(t.kernel.AddressSpace(), call.Entry, func(*xen.Request) xen.Response {
		w.count(func(n *table1.Counts) error { n.Syscalls++; return nil })
		return xen.Response{}
	})
	return w, err
}

// attachForwarding gets every CR3 write that changes anything.
func attachForwarding(t *target) (probe, error) {
	return attachCR3(t, func(*xen.Monitor) error { return nil })
}

// attachCR3 counts the CR3 writes that come to the monitor; prepare may set a
// filter before.
func attachCR3(t *target, prepare func(*xen.Monitor) error) (_ *watch, err error) {
	w, err := newWatch(t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	err = w.loop.OnCtrlReg(xen.CR3, func(*xen.Request) xen.Response {
		w.count(func(n *table1.Counts) error { n.CR3Events++; return nil })
		return xen.Response{}
	})
	if err != nil {
		return nil, err
	}
	if err := prepare(w.mon); err != nil {
		return nil, err
	}
	w.serve()
	return w, w.mon.EnableCtrlReg(xen.CR3, nil)
}

func (c *cost) String() string {
	s := c.what
	if c.mechanism != "" {
		s += " (" + c.mechanism + ")"
	}
	if c.entries > 0 {
		s += fmt.Sprintf(", entries in the filter: %d", c.entries)
	}
	return s
}

// measure does one measurement, the loop without a monitor first.
func (c *cost) measure(ctx context.Context, t *target, number int) (_ *table1.Cost, err error) {
	base, err := t.loop(ctx, c.calls, number, nil)
	if err != nil {
		return nil, err
	}
	p, err := c.attach(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	// From the loop's last moment before its first call to its end.
	var before, after uint64
	took, err := t.loop(ctx, c.calls, number, func(begun bool) error {
		counts, err := p.Counts()
		if begun {
			before = c.events(counts)
		} else {
			after = c.events(counts)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := p.Close(); err != nil {
		return nil, err
	}
	r := &table1.Cost{
		What: c.what, Mechanism: c.mechanism, Entries: c.entries, Number: number + 1,
		Calls: c.calls, Events: after - before, Micros: took, BaseMicros: base,
	}
	if r.Events < uint64(c.calls) {
		return nil, fmt.Errorf("%d events in %d calls", r.Events, c.calls)
	}
	say("%v, measurement %d: %.0f instructions", c, r.Number, r.Instructions())
	return r, nil
}

// loopDelay is the time in which the guest is idle and the events so far are
// read, before the loop's calls.
const loopDelay = 500 * time.Millisecond

var (
	loopReady = regexp.MustCompile(`calls ready pid=`)
	loopTook  = regexp.MustCompile(`calls us=(\d+)\n`)
)

// loop runs calls in the guest and returns their time in microseconds. at is
// called just before them and just after.
func (t *target) loop(ctx context.Context, calls, number int, at func(begun bool) error) (int64, error) {
	delay := loopDelay + phaseStep*time.Duration(number)
	command, err := t.guest.Start(ctx, fmt.Sprintf("exec workload calls -kind getppid -n %d -delay %v", calls, delay))
	if err != nil {
		return 0, err
	}
	if _, err := command.WaitLine(ctx, loopReady); err != nil {
		return 0, err
	}
	if at != nil {
		if err := at(true); err != nil {
			return 0, err
		}
	}
	m, err := command.WaitLine(ctx, loopTook)
	if err != nil {
		return 0, err
	}
	if at != nil {
		if err := at(false); err != nil {
			return 0, err
		}
	}
	if out, status, err := command.Wait(ctx); err != nil || status != 0 {
		return 0, errors.Join(err, fmt.Errorf("loop: status %d: %s", status, out))
	}
	return strconv.ParseInt(m[1], 10, 64)
}
