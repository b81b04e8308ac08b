package conformance

import (
	"bytes"
	"slices"
	"syscall"
	"time"

	"github.com/govmi/govmi/xen"
)

var domainChecks = []check{
	{name: "version", run: version},
	{name: "build", run: build},
	{name: "host", run: host},
	{name: "security policy", run: policy},
	{name: "console", run: console},
	{name: "domain list", run: domainList},
	{name: "watch domains", run: watchDomains},
	{name: "lookup", run: lookup},
	{name: "domain info", run: domainInfo},
	{name: "start time", run: startTime},
	{name: "pause count", run: pauseCount},
	{name: "registers", run: registers},
	{name: "HVM context", run: hvmContext},
	{name: "dom0 is refused", run: dom0Refused},
}

func version(e *env) {
	if v := e.hyp.Version(); v.Major != 4 || v.Minor != e.target.Minor {
		e.Errorf("version %v, want 4.%d", v, e.target.Minor)
	}
}

func build(e *env) {
	b, err := e.hyp.Build()
	e.must(err)
	if b.Compiler == "" || b.Date == "" { // who built it need not be told
		e.Errorf("%+v", b)
	}
	if on, _ := b.BootOption("altp2m"); on != e.target.AltP2M {
		e.Errorf("altp2m on Xen's command line %q: %t", b.CommandLine, on)
	}
}

func host(e *env) {
	h, err := e.hyp.Host()
	e.must(err)
	if h.VMX != e.target.VMX || h.SVM == e.target.VMX || !h.HVM || !h.HAP || h.CPUs < 1 || h.Free >= h.Pages {
		e.Errorf("%+v", h)
	}
}

// None of Debian's releases is built with one.
func policy(e *env) {
	p, err := e.hyp.Policy()
	e.must(err)
	if p != xen.PolicyNone {
		e.Errorf("policy %v", p)
	}
}

func domainList(e *env) {
	var ids []xen.DomID
	for info, err := range e.hyp.Domains() {
		e.must(err)
		ids = append(ids, info.ID)
	}
	if !slices.IsSorted(ids) || ids[0] != 0 || !slices.Contains(ids, e.dom.ID()) {
		e.Errorf("domains %v, want 0 and %v", ids, e.dom.ID())
	}
	for range e.hyp.Domains() {
		break // leaves nothing behind
	}
}

// The domains that are there come first.
func watchDomains(e *env) {
	var ids []xen.DomID
	for ev, err := range e.hyp.WatchDomains(e.Context()) {
		e.must(err)
		if ev.Change != xen.DomainAppeared {
			e.Errorf("%+v", ev)
		}
		if ids = append(ids, ev.Info.ID); ev.Info.ID == e.dom.ID() {
			break
		}
	}
	if ids[0] != 0 {
		e.Errorf("domains %v", ids)
	}
}

func lookup(e *env) {
	d, err := e.hyp.LookupDomain(e.dom.ID().String())
	e.must(err)
	if name, err := d.Name(); name != e.target.Domain || err != nil {
		e.Errorf("domain %v is named %q, %v", d.ID(), name, err)
	}
	for _, id := range []xen.DomID{4711, 0x7ff0, xen.NoDomID, 0x7fff, 0xffff} {
		_, err := e.hyp.Domain(id)
		e.want(id.String(), err, xen.ErrNoDomain)
	}
	_, err = e.hyp.DomainByName("no such domain")
	e.want("name", err, xen.ErrNoDomain)
}

func domainInfo(e *env) {
	info, err := e.dom.Info()
	e.must(err)
	if info.ID != e.dom.ID() || !info.HVM || !info.HAP || info.Dying || info.Shutdown || info.Paused ||
		info.OnlineVCPUs != 1 || info.MaxVCPU != 0 || info.Pages == 0 || info.Pages > info.MaxPages || info.CPUTime == 0 {
		e.Errorf("%+v", info)
	}
}

// Xen counts pauses, and does not go below zero.
func pauseCount(e *env) {
	paused := func() bool {
		info, err := e.dom.Info()
		e.must(err)
		return info.Paused
	}
	e.must(e.dom.Pause())
	e.must(e.dom.Pause())
	e.must(e.dom.Unpause())
	if !paused() {
		e.Error("runs after two pauses and one unpause")
	}
	e.must(e.dom.Unpause())
	if paused() {
		e.Error("paused after two pauses and two unpauses")
	}
	e.want("unpause of a running domain", e.dom.Unpause(), syscall.EINVAL)
}

func startTime(e *env) {
	t, err := e.dom.StartTime()
	e.must(err)
	again, err := e.dom.StartTime()
	e.must(err)
	if t.Year() < 2000 || t.After(time.Now()) || !again.Equal(t) {
		e.Errorf("started %v, then %v", t, again)
	}
}

func registers(e *env) {
	e.must(e.dom.Pause())
	a, err := e.dom.Registers(0)
	b, err2 := e.dom.Registers(0)
	e.must(e.dom.Unpause())
	e.must(err)
	e.must(err2)
	if *a != *b {
		e.Errorf("a paused vCPU changed from %+v to %+v", *a, *b)
	}
	all, err := e.dom.AllRegisters()
	e.must(err)
	if len(all) != 1 {
		e.Errorf("registers of %d vCPUs", len(all))
	}
	if _, err := e.dom.Registers(100); err == nil {
		e.Error("registers of vCPU 100")
	}
}

// The whole context has what its records are one by one.
func hvmContext(e *env) {
	e.must(e.dom.Pause())
	defer e.dom.Unpause()
	all, err := e.dom.Context()
	e.must(err)
	one, err := e.dom.ContextRecord(xen.ContextCPU, 0)
	e.must(err)
	cpus := 0
	for _, r := range all {
		if r.Type == xen.ContextCPU {
			// Time goes on in between.
			const tsc = 1008
			for i := range 8 {
				r.Data[tsc+i], one[tsc+i] = 0, 0
			}
			if cpus++; r.Instance != 0 || !bytes.Equal(r.Data, one) {
				e.Errorf("vCPU %d: %x, by itself %x", r.Instance, r.Data, one)
			}
		}
	}
	if cpus != 1 || all[0].Type != xen.ContextHeader {
		e.Errorf("%d vCPUs in %d records, the first of type %d", cpus, len(all), all[0].Type)
	}
	_, err = e.dom.ContextRecord(xen.ContextCPU, 100)
	e.want("vCPU 100", err, xen.ErrNotFound)
	if _, err := e.dom.ContextRecord(1000, 0); err == nil {
		e.Error("a record of type 1000")
	}
}

func console(e *env) {
	said, err := e.hyp.Console()
	e.must(err)
	if !bytes.Contains(said, []byte("(XEN)")) || bytes.IndexByte(said, 0) >= 0 {
		e.Errorf("Xen said %q", said)
	}
}

func dom0Refused(e *env) {
	d, err := e.hyp.Domain(0)
	e.must(err)
	_, err = d.OpenMonitor(nil)
	e.want("monitor", err, xen.ErrNotSupported)
	e.want("recovery", d.RecoverMonitor(nil), xen.ErrNotSupported)
}
