package conformance

import (
	"github.com/govmi/govmi/xen"
)

var views = &feature{"views (altp2m)", func(f *Facts) string {
	switch {
	case !f.VMX:
		return "Xen has no altp2m on AMD"
	case !f.AltP2M:
		return "Xen was booted without altp2m=1"
	}
	return ""
}}

func noViews(e *env) error {
	e.want("SetAltP2M", e.dom.SetAltP2M(true), xen.ErrNotSupported)
	_, err := e.dom.CreateView()
	e.want("CreateView", err, xen.ErrNotSupported)
	_, err = e.dom.VCPUView(0)
	e.want("VCPUView", err, xen.ErrNotSupported)
	e.want("SetOwnAccess", e.dom.SetOwnAccess(1, xen.AccessRX), xen.ErrNotSupported)
	_, err = e.dom.AltP2M()
	return err
}

var viewChecks = []check{
	{name: "views", needs: views, run: viewsCheck, absent: noViews},
	{name: "number of views", needs: views, run: viewLimit, absent: noViews},
	{name: "access of views", needs: views, run: viewAccess, absent: noViews},
}

// altp2m turns it on, and off at the check's end.
func (e *env) altp2m() {
	e.Helper()
	on, err := e.dom.AltP2M()
	e.must(err)
	if on {
		e.Fatal("altp2m is on already")
	}
	_, err = e.dom.CreateView()
	e.want("CreateView with altp2m off", err, xen.ErrNotSupported)
	e.must(e.dom.SetAltP2M(true))
	e.Cleanup(func() { e.must(e.dom.SetAltP2M(false)) })
	if on, err := e.dom.AltP2M(); !on || err != nil {
		e.Errorf("AltP2M() = %t, %v", on, err)
	}
}

func viewsCheck(e *env) {
	e.altp2m()
	spare := e.spare()
	v, err := e.dom.CreateView()
	e.must(err)
	if v == 0 {
		e.Error("view 0 was made")
	}
	e.must(e.dom.ChangeGFN(v, 1, spare))
	e.must(e.dom.ResetGFN(v, 1))
	at := func(want xen.View) {
		e.Helper()
		if got, err := e.dom.VCPUView(0); got != want || err != nil {
			e.Errorf("vCPU 0 is in view %d, %v, want %d", got, err, want)
		}
	}
	at(0)
	e.must(e.dom.SwitchView(v))
	at(v)
	if _, err := e.dom.VCPUView(1000); err == nil {
		e.Error("vCPU 1000 is in a view")
	}
	e.want("destroying a view in use", e.dom.DestroyView(v), xen.ErrBusy)
	e.must(e.dom.SwitchView(0))
	e.must(e.dom.DestroyView(v))
	e.want("changing view 0", e.dom.ChangeGFN(0, 1, spare), xen.ErrNotSupported)
	e.want("access in view 0", e.dom.SetViewAccess(0, 1, xen.AccessR), xen.ErrNotSupported)
	e.want("destroying view 0", e.dom.DestroyView(0), xen.ErrNotSupported)
	if err := e.dom.SwitchView(v); err == nil {
		e.Error("a view that is gone can be switched to")
	}
}

// Ten with view 0, unless the toolstack says otherwise from 4.21 on.
func viewLimit(e *env) {
	e.altp2m()
	const own = 9
	for range own {
		_, err := e.dom.CreateView()
		e.must(err)
	}
	_, err := e.dom.CreateView()
	e.want("view 10", err, xen.ErrNoSpace)
}

func viewAccess(e *env) {
	e.altp2m()
	v, err := e.dom.CreateView()
	e.must(err)
	for _, a := range []xen.Access{
		xen.AccessN, xen.AccessR, xen.AccessRW, xen.AccessRX, xen.AccessRWX, xen.AccessRX2RW, xen.AccessN2RWX, xen.AccessDefault,
	} {
		e.must(e.dom.SetViewAccess(v, 1, a))
	}
	e.must(e.dom.SetOwnAccess(1, xen.AccessRX))
	e.must(e.dom.SetOwnAccess(1, xen.AccessDefault))
	// They would crash the guest.
	for _, a := range []xen.Access{xen.AccessW, xen.AccessWX} {
		e.want(a.String(), e.dom.SetViewAccess(v, 1, a), xen.ErrNotSupported)
		e.want(a.String(), e.dom.SetOwnAccess(1, a), xen.ErrNotSupported)
	}
	// Before 4.20 its number was that of the default.
	err = e.dom.SetViewAccess(v, 1, xen.AccessRPW)
	if e.target.Minor >= 20 {
		e.must(err)
	} else {
		e.want("r_pw", err, xen.ErrNotSupported)
	}
}
