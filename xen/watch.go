package xen

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/govmi/govmi/internal/xenstore"
)

// DomainChange is what has happened to a domain.
type DomainChange int

// The changes, of which a domain has any number in this order.
const (
	DomainAppeared DomainChange = iota // it is there; it need not have run yet
	DomainShutdown                     // it stopped itself: DomainInfo.ShutdownReason
	DomainGone                         // it is being destroyed, or there no more
)

func (c DomainChange) String() string {
	switch c {
	case DomainAppeared:
		return "appeared"
	case DomainShutdown:
		return "shut down"
	case DomainGone:
		return "gone"
	}
	return fmt.Sprintf("change %d", int(c))
}

// DomainEvent is a change of a domain. Info is its state then, or for a domain
// that is gone the last that was seen.
type DomainEvent struct {
	Change DomainChange
	Info   DomainInfo
}

// WatchDomains returns first all domains that are there, dom0 included, and then
// what appears, shuts down and goes, as soon as xenstored has heard of it, until
// ctx ends; the error is then ctx.Err(). An error ends the sequence. A domain
// that came and went between two looks is not told of; one that has taken the
// number of another is told of as another, by its UUID.
func (h *Hypervisor) WatchDomains(ctx context.Context) iter.Seq2[DomainEvent, error] {
	return func(yield func(DomainEvent, error) bool) {
		if err := h.watchDomains(ctx, func(e DomainEvent) bool { return yield(e, nil) }); err != nil {
			yield(DomainEvent{}, err)
		}
	}
}

// watchDomains is WatchDomains for a yield that cannot be told of an error. It
// returns nil when yield has had enough.
func (h *Hypervisor) watchDomains(ctx context.Context, yield func(DomainEvent) bool) (err error) {
	conn, err := h.devices.XenStore()
	if err != nil {
		return fail("open XenStore", NoDomID, err, noXenStore)
	}
	w, err := xenstore.Watch(conn, xenstore.IntroduceDomain, xenstore.ReleaseDomain)
	if err != nil {
		return fail("watch domains", NoDomID, err, "")
	}
	stop := context.AfterFunc(ctx, func() { w.Close() }) // its error comes from Next
	defer func() {
		if stop() {
			err = errors.Join(err, fail("watch domains", NoDomID, w.Close(), ""))
		}
	}()
	known := map[DomID]DomainInfo{}
	for {
		events, err := h.lookAround(known)
		if err != nil {
			return err
		}
		for _, e := range events {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !yield(e) {
				return nil
			}
		}
		if _, err := w.Next(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fail("watch domains", NoDomID, err, noXenStore)
		}
	}
}

const noXenStore = "xenstored is not reachable; is it running, and are you root in dom0?"

// lookAround brings known up to date and returns what has changed.
func (h *Hypervisor) lookAround(known map[DomID]DomainInfo) ([]DomainEvent, error) {
	var events []DomainEvent
	seen := map[DomID]bool{}
	for info, err := range h.Domains() {
		if err != nil {
			return nil, err
		}
		if info.Dying {
			continue // what is left of it is of no use
		}
		seen[info.ID] = true
		was, there := known[info.ID]
		if there && was.UUID != info.UUID {
			events = append(events, DomainEvent{DomainGone, was})
			there = false
		}
		if !there {
			events = append(events, DomainEvent{DomainAppeared, info})
		}
		if info.Shutdown && !(there && was.Shutdown) {
			events = append(events, DomainEvent{DomainShutdown, info})
		}
		known[info.ID] = info
	}
	for id, was := range known {
		if !seen[id] {
			events = append(events, DomainEvent{DomainGone, was})
			delete(known, id)
		}
	}
	return events, nil
}
