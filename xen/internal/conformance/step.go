package conformance

import "github.com/govmi/govmi/xen"

var stepping = &feature{"single-stepping", func(f *Facts) string {
	if !f.VMX {
		return "AMD has no monitor trap flag"
	}
	return ""
}}

var stepChecks = []check{
	{name: "single-step", needs: stepping, run: singleStep, absent: func(e *env) error {
		m := e.monitor()
		e.want("StopSingleStep", e.dom.StopSingleStep(0), xen.ErrNotSupported)
		return m.EnableSingleStep()
	}},
}

// A vCPU steps from its first breakpoint on, for some instructions.
func singleStep(e *env) {
	const breakpoints, steps = 4, 3
	m := e.monitor()
	e.must(m.EnableSingleStep())
	e.must(m.EnableSoftwareBreakpoint())
	stepped, left := 0, 0
	stop := e.serve(m, func(r *xen.Request) xen.Response {
		switch r.Reason {
		case xen.ReasonSoftwareBreakpoint:
			if err := e.dom.InjectBreakpoint(r.VCPU, uint8(r.Breakpoint.InsnLength)); err != nil {
				e.Error(err)
			}
			left = steps
			return xen.Response{Step: xen.ToggleStep}
		case xen.ReasonSingleStep:
			stepped++
			if left--; left == 0 {
				return xen.Response{Step: xen.ToggleStep}
			}
		default:
			e.Errorf("request %+v", *r)
		}
		return xen.Response{}
	})
	e.target.Guest.Breakpoints(e.T, breakpoints)
	stop()
	if stepped != breakpoints*steps {
		e.Errorf("%d steps after %d breakpoints, want %d each", stepped, breakpoints, steps)
	}
	e.must(e.dom.StopSingleStep(0))
}
