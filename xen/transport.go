package xen

import (
	"errors"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/evtchn"
)

// transport carries a domain's requests to its monitor and the answers back.
// What a [Monitor] promises is made of these, so that one of Xen's that is not a
// ring of one page needs no other Serve, Drain or Close. Its errors are of this
// package.
//
// One goroutine at a time may use it, but for wake.
type transport interface {
	// answer lets h answer the requests that are there, and hands the answers to
	// Xen with one notification for all. It returns how many those were.
	answer(h Handler) (int, error)
	// settle answers a request that was taken and not answered, as after an error
	// or a panic of h, and hands over whatever is not handed over.
	settle() error
	// rescue has Xen take the answers where it could not be notified.
	rescue() error

	// wait blocks until there may be new requests, or wake is called; if neither
	// has happened since the last wait. What comes after it is waited for anew.
	wait() error
	wake() error

	// detach takes it from Xen, whose events are disabled; release gives back
	// what it has here.
	detach() error
	release() error
}

// ringTransport is the ring of one page, with its event channel.
type ringTransport struct {
	*ring
	dom *Domain
	mem []byte // the mapped page
	ch  *evtchn.Channel
	req Request // what the handler sees
}

func (t *ringTransport) answer(h Handler) (n int, err error) {
	pending, err := t.pending()
	if err != nil {
		return 0, t.dom.fail("look into the ring", err, "")
	}
	for range pending {
		if err := t.take(&t.req); err != nil {
			return n, t.dom.fail("take a request", err, "") // settle answers it
		}
		resp := h(&t.req)
		if err := t.ring.answer(&resp); err != nil {
			return n, t.dom.fail("answer a request", err, "")
		}
		n++
	}
	return n, t.flush()
}

func (t *ringTransport) settle() error {
	if t.taken {
		if err := t.ring.answer(&plain); err != nil {
			return t.dom.fail("answer a request", err, "")
		}
	}
	return t.flush()
}

func (t *ringTransport) flush() error {
	if !t.publish() {
		return nil
	}
	if err := t.ch.Notify(); err != nil {
		return t.dom.fail("notify Xen", err, "")
	}
	t.notified()
	return nil
}

func (t *ringTransport) rescue() error { return t.event("vm_event resume", abi.VMEventResume) }

func (t *ringTransport) wait() error {
	_, err := t.ch.Wait()
	return t.dom.fail("wait for the event channel", err, "")
}

func (t *ringTransport) wake() error {
	return t.dom.fail("wake who waits for the event channel", t.ch.Wake(), "")
}

func (t *ringTransport) detach() error { return t.event("vm_event disable", abi.VMEventDisable) }

func (t *ringTransport) event(op string, event uint32) error {
	_, err := t.dom.hyp.conn.VMEvent(uint16(t.dom.id), event)
	return t.dom.fail(op, err, "")
}

func (t *ringTransport) release() error {
	err := t.dom.fail("unmap the monitor ring", t.dom.hyp.conn.Unmap(t.mem), "")
	t.mem, t.ring = nil, nil
	return errors.Join(err, t.dom.fail("unbind the event channel", t.ch.Close(), ""))
}
