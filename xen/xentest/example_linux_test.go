package xentest_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// A monitor answers an event of a guest.
func Example() {
	x := xentest.New(nil)
	g := x.AddDomain(&xentest.DomainConfig{ID: 7, Name: "guest"})

	h, err := xen.Open(x.Options())
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := h.DomainByName("guest")
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := m.EnableSoftwareBreakpoint(); err != nil {
		fmt.Println(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error)
	go func() {
		served <- m.Serve(ctx, func(r *xen.Request) xen.Response {
			fmt.Printf("breakpoint at %#x\n", r.Regs.RIP)
			regs := r.Regs
			regs.RIP += uint64(r.Breakpoint.InsnLength)
			return xen.Response{Action: xen.SetRegisters, Regs: &regs}
		})
	}()

	a, err := g.Trap(context.Background(), &xen.Request{
		Reason:     xen.ReasonSoftwareBreakpoint,
		Regs:       xen.Registers{RIP: 0x401000},
		Breakpoint: xen.SoftwareBreakpoint{InsnLength: 1, Type: 6},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("the vCPU goes on at %#x\n", a.Regs.RIP)

	stop()
	<-served
	fmt.Println(errors.Join(m.Close(), h.Close(), x.Close()))
	// Output:
	// breakpoint at 0x401000
	// the vCPU goes on at 0x401001
	// <nil>
}

// Guest memory is shared with whoever maps it.
func ExampleDomain_SetPage() {
	x := xentest.New(nil)
	g := x.AddDomain(&xentest.DomainConfig{ID: 1})
	g.SetPage(5, []byte("hello"))

	h, err := xen.Open(x.Options())
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := h.Domain(1)
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := d.MapFrames([]xen.GFN{5}, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	page, err := f.Frame(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", page[:5])
	copy(page, "HELLO")
	fmt.Printf("%s\n", g.Page(5)[:5])
	fmt.Println(errors.Join(f.Close(), h.Close(), x.Close()))
	// Output:
	// hello
	// HELLO
	// <nil>
}

// Every call that a piece of code makes fails once. Whatever fails, nothing is
// left behind.
func ExampleXen_FailCall() {
	attach := func(fail int) (calls int, err error) {
		x := xentest.New(nil)
		x.AddDomain(&xentest.DomainConfig{ID: 1})
		h, err := xen.Open(x.Options())
		if err != nil {
			return 0, err
		}
		d, err := h.Domain(1)
		if err != nil {
			return 0, err
		}
		before := x.Calls()
		x.FailCall(fail, syscall.EIO)
		m, err := d.OpenMonitor(nil)
		calls = x.Calls() - before
		if err == nil {
			err = m.Close()
		} else if !errors.Is(err, syscall.EIO) {
			fmt.Println("not what failed:", err)
		}
		if left := errors.Join(h.Close(), x.Close()); left != nil {
			fmt.Printf("call %d: %v\n", fail, left)
		}
		return calls, err
	}
	n, err := attach(0)
	if err != nil {
		fmt.Println(err)
	}
	failed := 0
	for i := 1; i <= n; i++ {
		if _, err := attach(i); err != nil {
			failed++
		}
	}
	fmt.Println(n > 5, failed > 5)
	// Output:
	// true true
}

// A program that forgets to close is found out.
func ExampleXen_Close() {
	x := xentest.New(nil)
	if _, err := xen.Open(x.Options()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(x.Close())
	// Output:
	// xentest: left behind: 2 open devices
	// xentest: left behind: 1 mappings of hypercall memory
}
