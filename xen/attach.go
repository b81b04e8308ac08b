package xen

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/privcmd"
)

// undoList is what takes the steps done so far back.
type undoList []func() error

func (u *undoList) add(f func() error) { *u = append(*u, f) }

// run takes everything back, last step first, and goes on after errors.
func (u *undoList) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	*u = nil
	return errors.Join(errs...)
}

// attached is a ring that Xen has taken.
type attached struct {
	dom       *Domain
	gfn       uint64
	populated bool // the page is not one that the guest had before
	mem       []byte
	ring      *ring
	port      uint32
}

// attachRing prepares the ring's page and gives it to Xen. The domain is
// paused.
func (d *Domain) attachRing(undo *undoList) (*attached, error) {
	id, conn := uint16(d.id), d.hyp.conn
	a := &attached{dom: d}
	var err error
	if a.gfn, err = d.ringGFN(); err != nil {
		return nil, err
	}
	mem, errno, err := d.mapFrame(a.gfn)
	if err == nil && errno != 0 {
		// Whoever had the ring before took the page from the guest.
		if err := conn.PopulateFrame(id, a.gfn); err != nil {
			return nil, d.fail("memory_op populate_physmap", err,
				"no room for the monitor ring's page; the domain has all the memory that it may have (xl mem-max)")
		}
		a.populated = true
		undo.add(func() error {
			if !a.populated {
				return nil
			}
			return a.takePage()
		})
		mem, errno, err = d.mapFrame(a.gfn)
	}
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return nil, d.fail("map the monitor ring", err, "")
	}
	a.mem = mem
	undo.add(func() error { return d.fail("unmap the monitor ring", conn.Unmap(mem), "") })

	a.ring = newRing(mem, d.hyp.vmEvent)
	a.port, err = conn.VMEvent(id, abi.VMEventEnable)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return nil, d.busy(err)
	case err != nil:
		return nil, d.fail("vm_event enable", err, "")
	}
	undo.add(func() error {
		_, err := conn.VMEvent(id, abi.VMEventDisable)
		return d.fail("vm_event disable", err, "")
	})
	return a, nil
}

// ringGFN is where the toolstack has put the ring's page.
func (d *Domain) ringGFN() (uint64, error) {
	gfn, err := d.hyp.conn.HVMParam(uint16(d.id), abi.HVMParamMonitorRingPFN)
	switch {
	case err != nil:
		return 0, d.fail("hvm_op get_param monitor_ring_pfn", err, "")
	case gfn == 0:
		return 0, fault("open monitor", d.id, ErrNotSupported, "the toolstack gave this domain no page for a monitor ring")
	}
	return gfn, nil
}

// takePage takes the ring's page from the guest.
func (a *attached) takePage() error {
	if err := a.dom.hyp.conn.RemoveFrame(uint16(a.dom.id), a.gfn); err != nil {
		return a.dom.fail("memory_op decrease_reservation", err, "cannot take the ring's page from the guest")
	}
	a.populated = false
	return nil
}

// mapFrame maps a page. errno is not zero if there is none; then nothing is
// mapped.
func (d *Domain) mapFrame(gfn uint64) (mem []byte, errno syscall.Errno, err error) {
	var errs [1]int32
	mem, err = privcmd.MapFrames(d.hyp.conn, uint16(d.id), []uint64{gfn}, errs[:], true)
	if err != nil {
		return nil, 0, err
	}
	if errs[0] != 0 {
		return nil, syscall.Errno(-errs[0]), d.hyp.conn.Unmap(mem)
	}
	return mem, 0, nil
}

// lockMonitor takes the lock that tells other processes that this one is the
// domain's monitor. Where there can be no lock it returns the error with one
// that locks nothing.
func (d *Domain) lockMonitor() (io.Closer, error) {
	l, err := d.hyp.devices.Lock(fmt.Sprintf("monitor-%d", d.id))
	if err != nil {
		return nopCloser{}, err
	}
	return l, nil
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }
