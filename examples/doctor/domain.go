package main

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/xen"
)

// slots is how many events the monitor ring holds.
const slots = 8

// examine looks at a domain. What prevents introspection comes first, and what
// would follow from it is left out.
func examine(d *xen.Domain) domainReport {
	r := domainReport{ID: d.ID()}
	if name, err := d.Name(); err == nil {
		r.Name = name
	}
	info, err := d.Info()
	if err != nil {
		r.Findings = []finding{refused("state", err)}
		return r
	}
	r.Findings = []finding{kind(&info)}
	if prevents(r.Findings[0]) {
		return r
	}
	r.Findings = append(r.Findings, state(&info), vcpus(&info), access(d), ring(d))
	c, err := d.Capabilities()
	if err != nil {
		r.Findings = append(r.Findings, refused("events", err))
		return r
	}
	r.Findings = append(r.Findings, events(c), singleStep(c), views(d), filter(d))
	return r
}

// denied is the report of a domain of which not even the state can be asked for.
func denied(domain string, err error) domainReport {
	r := domainReport{ID: xen.NoDomID, Name: domain, Findings: []finding{refused("state", err)}}
	var e *xen.Error
	if errors.As(err, &e) {
		r.ID = e.Domain
	}
	return r
}

func kind(i *xen.DomainInfo) finding {
	const check = "kind"
	switch {
	case i.ID == 0:
		return finding{check, bad, "dom0", "a control domain cannot monitor itself"}
	case !i.HVM:
		return finding{check, bad, "PV", `type="pvh" or type="hvm" in its configuration`}
	case !i.HAP:
		return finding{check, bad, "HVM or PVH on shadow page tables", "hap=1 in its configuration"}
	}
	return finding{check, good, "HVM or PVH with nested page tables", ""}
}

func state(i *xen.DomainInfo) finding {
	const check = "state"
	switch {
	case i.Dying:
		return finding{check, bad, "is being destroyed", ""}
	case i.Shutdown:
		return finding{check, bad, fmt.Sprintf("has shut down (reason %d)", i.ShutdownReason), "start it again"}
	case i.Paused:
		return finding{check, limited, "paused: nothing happens in it", "xl unpause, unless somebody wants it so"}
	}
	return finding{check, good, "runs", ""}
}

func vcpus(i *xen.DomainInfo) finding {
	const check = "vCPUs"
	n := int(i.MaxVCPU) + 1
	if n > slots {
		return finding{check, limited, fmt.Sprintf("%d: they can wait for room in the ring of %d events", n, slots),
			"fewer than 9 vCPUs; with more, a dead monitor may cost the domain"}
	}
	return finding{check, good, fmt.Sprint(n), ""}
}

// access tries what every tool does: registers and memory.
func access(d *xen.Domain) finding {
	const check = "registers and memory"
	if _, err := d.Registers(0); err != nil {
		return refused(check, err)
	}
	f, err := d.MapFrames([]xen.GFN{0}, false)
	if err != nil {
		return refused(check, err)
	}
	if _, err := f.Frame(0); errors.Is(err, xen.ErrPermission) {
		return refused(check, errors.Join(err, f.Close()))
	}
	if err := f.Close(); err != nil {
		return refused(check, err)
	}
	return finding{check, good, "can be read", ""}
}

func ring(d *xen.Domain) finding {
	const check = "monitor ring"
	s, err := d.MonitorState()
	if err != nil {
		return refused(check, err)
	}
	switch s {
	case xen.MonitorAttached:
		return finding{check, bad, "a monitor is attached, and its program lives", "end that program"}
	case xen.MonitorLeftBehind:
		return finding{check, bad, "left behind by a monitor that died, or held by one that is not of this library",
			"if its program is gone, recover -domain NAME (xen.Domain.RecoverMonitor) brings the domain back"}
	}
	return finding{check, good, "free", ""}
}

func events(c xen.Capabilities) finding {
	const check = "events"
	switch {
	case !c.CtrlReg():
		return finding{check, bad, fmt.Sprintf("no writes of control registers (capabilities %#x)", c.Raw), ""}
	case !c.SoftwareBreakpoint():
		return finding{check, bad, fmt.Sprintf("no breakpoints (capabilities %#x)", c.Raw), ""}
	}
	return finding{check, good, "control registers, breakpoints", ""}
}

func singleStep(c xen.Capabilities) finding {
	const check = "single-step"
	if !c.SingleStep() {
		return finding{check, limited, "no monitor trap flag: instructions under breakpoints are emulated", ""}
	}
	return finding{check, good, "by the monitor trap flag", ""}
}

func views(d *xen.Domain) finding {
	const check = "views"
	on, err := d.AltP2M()
	switch {
	case errors.Is(err, xen.ErrNotSupported):
		return failed(check, limited, err)
	case err != nil:
		return refused(check, err)
	case on:
		return finding{check, good, "altp2m is on", ""}
	}
	return finding{check, good, "altp2m can be turned on", ""}
}

func filter(d *xen.Domain) finding {
	const check = "CR3 filter"
	f, err := d.CR3Filter()
	switch {
	case errors.Is(err, xen.ErrNotSupported), errors.Is(err, xen.ErrVersion):
		return failed(check, limited, err)
	case err != nil:
		return refused(check, err)
	case f.TargetListAvailable:
		return finding{check, good, fmt.Sprintf("in Xen, %d roots, with the CR3-target list", f.MaxEntries), ""}
	}
	return finding{check, good, fmt.Sprintf("in Xen, %d roots", f.MaxEntries), ""}
}
