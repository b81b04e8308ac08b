package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/govmi/govmi/xen"
)

var memoryChecks = []check{
	{name: "map frames", run: mapFrames},
	{name: "populate and remove a frame", run: populate},
	{name: "HVM parameters", run: params},
	{name: "grant table", run: grantTable},
	{name: "no fork", run: func(e *env) {
		e.want("ResetFork", e.dom.ResetFork(xen.ForkReset{State: true, Memory: true}), xen.ErrNotSupported)
		e.want("Fork of itself", e.dom.Fork(e.dom.ID(), nil), xen.ErrExists)
		e.want("Fork of a domain with memory", e.dom.Fork(0, nil), xen.ErrExists)
	}},
	{name: "access", needs: memAccess, run: access, absent: func(e *env) error {
		m := e.monitor()
		e.want("SetDefaultAccess", m.SetDefaultAccess(xen.AccessRWX), xen.ErrNotSupported)
		_, err := m.Access(1)
		e.want("Access", err, xen.ErrNotSupported)
		return m.SetAccess(1, 1, xen.AccessRWX)
	}},
}

var memAccess = &feature{"access to memory", func(f *Facts) string {
	if !f.VMX {
		return "Xen restricts no access on AMD"
	}
	return ""
}}

func params(e *env) {
	get := func(p xen.HVMParam) uint64 {
		v, err := e.dom.HVMParam(p)
		e.must(err)
		return v
	}
	last, err := e.dom.MaximumGPFN()
	e.must(err)
	for _, p := range []xen.HVMParam{xen.ParamStorePFN, xen.ParamConsolePFN, xen.ParamMonitorRingPFN} {
		if v := get(p); v == 0 || xen.GFN(v) > last {
			e.Errorf("parameter %d is frame %#x, the last is %v", p, v, last)
		}
	}
	if get(xen.ParamStoreEvtchn) == 0 || get(xen.ParamConsoleEvtchn) == 0 {
		e.Error("no event channels for XenStore or the console")
	}
	if _, err := e.dom.HVMParam(100); err == nil {
		e.Error("parameter 100")
	}
	dom0, err := e.hyp.Domain(0)
	e.must(err)
	if _, err := dom0.HVMParam(xen.ParamStorePFN); err == nil {
		e.Error("a PV domain has HVM parameters")
	}
}

// The toolstack grants dom0 the console's frame by entry 0, and XenStore's by 1.
func grantTable(e *env) {
	r, err := e.dom.MapGrantTable(1)
	e.must(err)
	table := r.Bytes()
	for i, p := range []xen.HVMParam{xen.ParamConsolePFN, xen.ParamStorePFN} {
		const permitAccess, mask = 1, 3
		flags, dom := binary.LittleEndian.Uint16(table[8*i:]), binary.LittleEndian.Uint16(table[8*i+2:])
		frame := binary.LittleEndian.Uint32(table[8*i+4:])
		want, err := e.dom.HVMParam(p)
		e.must(err)
		if flags&mask != permitAccess || dom != 0 || uint64(frame) != want {
			e.Errorf("grant %d: flags %#x, domain %d, frame %#x, want %#x", i, flags, dom, frame, want)
		}
	}
	e.must(errors.Join(r.Close(), r.Close()))
	if _, err := e.dom.MapGrantTable(0); err == nil {
		e.Error("no frames were mapped")
	}
}

// Access is as set, and as before when the monitor is gone.
func access(e *env) {
	gfn := e.spare()
	m, err := e.dom.OpenMonitor(nil)
	e.must(err)
	defer m.Close()
	is := func(want xen.Access) {
		e.Helper()
		if a, err := m.Access(gfn); a != want || err != nil {
			e.Errorf("access %v, %v, want %v", a, err, want)
		}
	}
	is(xen.AccessRWX)
	for _, a := range []xen.Access{xen.AccessN, xen.AccessR, xen.AccessRW, xen.AccessRX, xen.AccessRWX, xen.AccessRX2RW, xen.AccessN2RWX} {
		e.must(m.SetAccess(gfn, 1, a))
		is(a)
	}
	e.must(m.SetAccess(gfn, 1, xen.AccessDefault))
	is(xen.AccessRWX)
	e.must(m.SetAccess(gfn, 0, xen.AccessN))
	is(xen.AccessRWX)
	for _, a := range []xen.Access{xen.AccessW, xen.AccessWX} {
		e.want(a.String(), m.SetAccess(gfn, 1, a), xen.ErrNotSupported)
		e.want(a.String(), m.SetDefaultAccess(a), xen.ErrNotSupported)
	}
	e.want("a frame beyond the last", m.SetAccess(gfn+1000, 1, xen.AccessR), xen.ErrNotFound)
	_, err = m.Access(gfn + 1000)
	e.want("a frame that is not there", err, xen.ErrNotFound)
	e.must(m.SetAccess(gfn, 1, xen.AccessR))
	e.must(m.Close())
	e.want("access after Close", m.SetAccess(gfn, 1, xen.AccessR), xen.ErrClosed)

	m, err = e.dom.OpenMonitor(nil)
	e.must(err)
	is(xen.AccessRWX)
	e.must(m.Close())
}

func mapFrames(e *env) {
	last, err := e.dom.MaximumGPFN()
	e.must(err)
	f, err := e.dom.MapFrames([]xen.GFN{1, last + 1000, 2, 1 << 36}, false)
	e.must(err)
	for i, there := range []bool{true, false, true, false} {
		b, err := f.Frame(i)
		if (err == nil) != there || there && len(b) != xen.PageSize {
			e.Errorf("frame %d: %d bytes, %v", i, len(b), err)
		}
	}
	e.must(errors.Join(f.Close(), f.Close()))
	_, err = f.Frame(0)
	e.want("frame after Close", err, xen.ErrClosed)
	_, err = e.dom.MapFrames(nil, false)
	if err == nil {
		e.Error("no frames were mapped")
	}
}

// spare gives the domain a frame beyond its last, and takes it back at the
// check's end.
func (e *env) spare() xen.GFN {
	e.Helper()
	info, err := e.dom.Info()
	e.must(err)
	last, err := e.dom.MaximumGPFN()
	e.must(err)
	e.must(e.dom.SetMaxPages(info.MaxPages + 1))
	e.Cleanup(func() { e.must(e.dom.SetMaxPages(info.MaxPages)) })
	gfn := last + 1
	e.must(e.dom.Populate(gfn))
	e.Cleanup(func() { e.must(e.dom.RemoveFrame(gfn)) })
	return gfn
}

// What is written through one mapping is read through another.
func populate(e *env) {
	gfn := e.spare()
	w, err := e.dom.MapFrames([]xen.GFN{gfn}, true)
	e.must(err)
	defer w.Close()
	page, err := w.Frame(0)
	e.must(err)
	copy(page, bytes.Repeat([]byte("conform!"), xen.PageSize/8))
	r, err := e.dom.MapFrames([]xen.GFN{gfn}, false)
	e.must(err)
	defer r.Close()
	got, err := r.Frame(0)
	e.must(err)
	if !bytes.Equal(got, page) {
		e.Error("two mappings of a frame differ")
	}
	e.want("populating a frame twice", e.dom.Populate(gfn), xen.ErrExists)
	if err := e.dom.RemoveFrame(gfn + 1000); err == nil {
		e.Error("a frame that is not there was removed")
	}
}
