package conformance

import (
	"slices"
	"sync/atomic"

	"github.com/govmi/govmi/xen"
)

var filter = &feature{"filter of CR3 writes", func(f *Facts) string {
	if !f.CR3Filter {
		return "Xen was built without this module's patches"
	}
	return ""
}}

var targetList = &feature{"CR3-target list", func(f *Facts) string {
	if m := filter.missing(f); m != "" {
		return m
	}
	if !f.VMX {
		return "AMD has no CR3-target list"
	}
	return ""
}}

var filterChecks = []check{
	{name: "CR3 filter", needs: filter, run: cr3Filter, absent: func(e *env) error {
		_, err := e.dom.CR3Filter()
		e.want("CR3Filter of the domain", err, xen.ErrNotSupported)
		m := e.monitor()
		_, err = m.CR3Filter()
		e.want("CR3Filter", err, xen.ErrNotSupported)
		return m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch})
	}},
	{name: "CR3-target list", needs: targetList, run: func(e *env) {
		e.must(setTargets(e.monitor()))
	}, absent: func(e *env) error { return setTargets(e.monitor()) }},
}

func setTargets(m *xen.Monitor) error {
	return m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0x1fff, TargetList: true, Halves: 0x1800})
}

// A filter that watches nothing drops what the guest does.
func cr3Filter(e *env) {
	const mask = 0x1fff
	info, err := e.dom.CR3Filter() // without a monitor
	e.must(err)
	if info.Mode != xen.CR3FilterOff || info.Entries != 0 {
		e.Errorf("%+v without a monitor", info)
	}
	m := e.monitor()
	e.want("AddCR3 without a filter", m.AddCR3(mask+1), xen.ErrNotFound)
	e.must(m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMember, Mask: mask}))
	info, err = m.CR3Filter()
	e.must(err)
	if info.Mode != xen.CR3FilterMember || info.Mask != mask || info.MaxEntries < 1 || info.TargetListAvailable != e.target.VMX {
		e.Errorf("%+v", info)
	}
	e.must(m.AddCR3(0x200123))
	e.want("AddCR3 twice", m.AddCR3(0x200000), xen.ErrExists)
	e.want("RemoveCR3 of another", m.RemoveCR3(0x400000), xen.ErrNotFound)
	e.want("mask with values", m.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: 0xfff}), xen.ErrBusy)
	values, err := m.CR3Values()
	e.must(err)
	if !slices.Equal(values, []uint64{0x200000}) {
		e.Errorf("values %#x", values)
	}
	e.must(m.RemoveCR3(0x200000))
	for i := range info.MaxEntries {
		e.must(m.AddCR3(uint64(i+1) << 13))
	}
	e.want("one too many", m.AddCR3(1<<30), xen.ErrNoSpace)
	e.must(m.ClearCR3())
	e.must(m.AddCR3(1 << 30)) // which the guest does not have: without any, Xen does not even look

	var events atomic.Int64
	stop := e.serve(m, func(*xen.Request) xen.Response { events.Add(1); return xen.Response{} })
	e.must(m.EnableCtrlReg(xen.CR3, nil))
	e.target.Guest.Switches(e.T, 10)
	info, err = m.CR3Filter()
	e.must(err)
	e.must(m.SetCR3Filter(xen.CR3FilterOptions{}))
	stopped := events.Load()
	e.target.Guest.Switches(e.T, 10)
	e.must(m.DisableCtrlReg(xen.CR3))
	stop()
	if info.Dropped < 10 || info.Forwarded != 0 || stopped != 0 {
		e.Errorf("%d dropped and %d sent, want all dropped", info.Dropped, info.Forwarded)
	}
	if events.Load() < 10 {
		e.Errorf("%d events without the filter", events.Load())
	}
}
