package main

import (
	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/xen"
)

// attachSteps is method 2b, the paper's own way to step over a breakpoint: the
// original byte is put back, the processor makes one step, which is a second
// event, and the breakpoint is put in place again.
func attachSteps(t *target, pid int) (probe, error) {
	var stepping *breakpoint.Breakpoint // by the guest's only vCPU
	prepare := func(w *watch) error {
		err := w.loop.OnSingleStep(func(*xen.Request) xen.Response {
			w.count(func(n *table1.Counts) error {
				n.Steps++
				if stepping == nil {
					return nil
				}
				return stepping.Arm()
			})
			stepping = nil
			return xen.Response{Step: xen.ToggleStep}
		})
		if err != nil {
			return err
		}
		return w.mon.EnableSingleStep()
	}
	return attachHandlers(t, pid, prepare, func(b *breakpoint.Breakpoint) xen.Response {
		b.Disarm()
		stepping = b
		return xen.Response{Step: xen.ToggleStep}
	})
}
