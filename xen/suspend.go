package xen

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/xenstore"
)

// shutdownSuspend is the reason of a domain that stopped to be saved.
const shutdownSuspend = 2

// WaitSuspend waits until the toolstack asks the guest to suspend itself, as it does
// before it saves or migrates it, or the guest has: then it returns nil. Otherwise
// the error is ctx.Err(), or matches [ErrNoDomain].
//
// What a monitor has changed in the guest's own memory is saved with it, and the
// domain that is restored, which has another number, has nobody who handles it. It is
// to be taken back at once: a guest needs some ten milliseconds for its devices, and
// the toolstack then begins to copy. Views and frames of a monitor's own are not
// saved.
func (d *Domain) WaitSuspend(ctx context.Context) (err error) {
	const op = "wait for a suspend"
	conn, err := d.hyp.devices.XenStore()
	if err != nil {
		return fail("open XenStore", d.id, err, noXenStore)
	}
	request := fmt.Sprintf("/local/domain/%d/control/shutdown", d.id)
	w, err := xenstore.Watch(conn, request, xenstore.ReleaseDomain)
	if err != nil {
		return fail(op, d.id, err, "")
	}
	stop := context.AfterFunc(ctx, func() { w.Close() }) // its error comes from Next
	defer func() {
		if stop() {
			err = errors.Join(err, fail(op, d.id, w.Close(), ""))
		}
	}()
	store, err := d.hyp.xenStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fail(op, d.id, store.Close(), "")) }()
	for {
		value, err := store.Read(request)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return fail(op, d.id, err, "")
		}
		info, ierr := d.Info()
		switch {
		case ierr != nil:
			return ierr
		case info.Dying:
			return fault(op, d.id, ErrNoDomain, "the domain is being destroyed")
		case value == "suspend", info.Shutdown && info.ShutdownReason == shutdownSuspend:
			return nil
		}
		if _, err := w.Next(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fail(op, d.id, err, noXenStore)
		}
	}
}
