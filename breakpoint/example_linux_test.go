package breakpoint_test

import (
	"context"
	"fmt"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// A breakpoint on a function of the guest's kernel, for calls with a certain
// argument, by the best strategy that the guest allows.
func ExampleOpen() {
	trace := func(ctx context.Context, dom *xen.Domain, mem *vmi.Memory, root vmi.CR3, function vmi.VirtAddr) error {
		mon, err := dom.OpenMonitor(nil)
		if err != nil {
			return err
		}
		defer mon.Close()
		loop := vmi.NewLoop(mon)
		engine, err := breakpoint.Open(breakpoint.Guest{
			Domain: dom, Monitor: mon, Frames: vmi.MapperFunc(dom.MapFrames), Loop: loop,
		}, nil)
		if err != nil {
			return err
		}
		defer engine.Close() // before the monitor
		fmt.Println(engine.Strategy())

		ctx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		defer func() { stop(); <-done }() // before the engine
		b, err := engine.InsertWith(mem.AddressSpace(root), function, func(r *xen.Request) xen.Response {
			second, _ := breakpoint.Argument(&r.Regs, 1)
			fmt.Printf("vCPU %d: %#x\n", r.VCPU, second)
			return xen.Response{} // get past the instruction
		}, &breakpoint.InsertOptions{When: breakpoint.ArgumentIs(0, 3)})
		if err != nil {
			return err
		}
		<-ctx.Done()
		hits, passed := b.Hits()
		fmt.Printf("%d calls, %d of others\n", hits, passed)
		return nil
	}
	_ = trace
	fmt.Println(breakpoint.ViewByInstruction)
	// Output: altp2m view, fast single-step or emulation
}
