package xen_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// host is a fake hypervisor with a guest, in place of the one that xen.Open(nil)
// opens in dom0. The examples leave errors out that the fake does not have.
func host() (*xentest.Xen, *xentest.Domain, *xen.Hypervisor) {
	x := xentest.New(&xentest.Config{Intel: true, AltP2M: true})
	g := x.AddDomain(&xentest.DomainConfig{ID: 4, Name: "guest", AltP2M: true})
	h, err := xen.Open(x.Options())
	if err != nil {
		panic(err)
	}
	return x, g, h
}

func ExampleHypervisor_Domains() {
	x, _, h := host()
	defer x.Close()
	defer h.Close()
	for info, err := range h.Domains() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(info.ID, "HVM or PVH:", info.HVM)
	}
	// Output:
	// 0 HVM or PVH: false
	// 4 HVM or PVH: true
}

// Domains come and go; a monitor of all of them waits for new ones.
func ExampleHypervisor_WatchDomains() {
	x, g, h := host()
	defer x.Close()
	defer h.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for e, err := range h.WatchDomains(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println("domain", e.Info.ID, e.Change)
		switch {
		case e.Change == xen.DomainGone:
			cancel()
		case e.Info.ID == g.ID():
			g.Destroy() // as xl destroy would
		}
	}
	// Output:
	// domain 0 appeared
	// domain 4 appeared
	// domain 4 gone
	// context canceled
}

// Errors say what to do, and match what they are.
func ExampleError() {
	x, _, h := host()
	defer x.Close()
	defer h.Close()
	dom0, err := h.Domain(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = dom0.OpenMonitor(nil)
	var e *xen.Error
	fmt.Println(errors.Is(err, xen.ErrNotSupported), errors.As(err, &e))
	fmt.Println(e.Domain, e.Op)
	fmt.Println(err)
	// Output:
	// true true
	// 0 open monitor
	// xen: domain 0: open monitor: a control domain cannot monitor itself
}

// A monitor sees which page tables a guest switches to.
func ExampleMonitor_Serve() {
	x, g, h := host()
	defer x.Close()
	defer h.Close()
	d, err := h.LookupDomain("guest")
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	if err := m.EnableCtrlReg(xen.CR3, &xen.CtrlRegOptions{IgnoreBits: 0xfff}); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		// The guest switches.
		_, err := g.Trap(ctx, &xen.Request{
			Reason: xen.ReasonWriteCtrlReg,
			Ctrl:   xen.CtrlRegWrite{Reg: xen.CR3, Old: 0x1000, New: 0x5000},
		})
		if err != nil {
			fmt.Println(err)
		}
		cancel()
	}()
	err = m.Serve(ctx, func(r *xen.Request) xen.Response {
		fmt.Printf("vCPU %d: %v from %#x to %#x\n", r.VCPU, r.Ctrl.Reg, r.Ctrl.Old, r.Ctrl.New)
		return xen.Response{}
	})
	fmt.Println(err)
	// Output:
	// vCPU 0: CR3 from 0x1000 to 0x5000
	// context canceled
}

// In a view, a vCPU sees another page than the others at the same frame.
func ExampleDomain_ChangeGFN() {
	x, g, h := host()
	defer x.Close()
	defer h.Close()
	g.SetPage(20, []byte("another page"))
	d, err := h.Domain(4)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := d.SetAltP2M(true); err != nil {
		fmt.Println(err)
		return
	}
	v, err := d.CreateView()
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := d.ChangeGFN(v, 3, 20); err != nil {
		fmt.Println(err)
	}
	if err := d.SwitchView(v); err != nil {
		fmt.Println(err)
	}
	gfn, access := g.ViewFrame(v, 3)
	fmt.Printf("view %d shows %v at 0x3, %v\n", g.View(0), gfn, access)
	fmt.Println(d.SetAltP2M(false)) // takes everything back
	// Output:
	// view 1 shows 0x14 at 0x3, rwx
	// <nil>
}
