package xentest

import (
	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// DomainConfig describes a domain. The zero value is a running PVH guest with
// one vCPU.
type DomainConfig struct {
	ID     xen.DomID // 0 is dom0, which is there already
	Name   string    // in XenStore; empty has none there
	PV     bool
	Shadow bool // shadow page tables in place of the processor's
	VCPUs  int  // 0 means 1
	Frames int  // that have memory, from frame 0 on; 0 means 16
	AltP2M bool // altp2m="external"
}

// Domain is a fake guest.
type Domain struct{ fake *xenfake.Domain }

// AddDomain makes a guest.
func (x *Xen) AddDomain(cfg *DomainConfig) *Domain {
	return &Domain{x.fake.AddDomain(&xenfake.DomainConfig{
		ID: uint16(cfg.ID), Name: cfg.Name, PV: cfg.PV, Shadow: cfg.Shadow,
		VCPUs: cfg.VCPUs, Frames: cfg.Frames, AltP2M: cfg.AltP2M,
	})}
}

// ID returns the domain's number.
func (d *Domain) ID() xen.DomID { return xen.DomID(d.fake.ID()) }

// Page returns the memory at gfn, which all mappings of the frame share, or nil
// if there is none. It is valid until [Xen.Close].
func (d *Domain) Page(gfn xen.GFN) []byte { return d.fake.Page(uint64(gfn)) }

// SetPage copies up to [xen.PageSize] bytes to the start of the page at gfn and
// clears the rest. It gives the domain a page there if it has none, of which 64
// can be had.
func (d *Domain) SetPage(gfn xen.GFN, content []byte) { d.fake.SetPage(uint64(gfn), content) }

// SetRegisters sets what [xen.Domain.Registers] reads.
func (d *Domain) SetRegisters(v xen.VCPU, r *xen.Registers) { d.fake.SetCPU(int(v), cpuContext(r)) }

// Destroy makes the domain a dying one, as it stays while somebody has its
// memory mapped or its ring.
func (d *Domain) Destroy() { d.fake.Kill() }

// Shutdown has the domain stop itself, for a reason as in
// [xen.DomainInfo.ShutdownReason].
func (d *Domain) Shutdown(reason uint8) { d.fake.Shutdown(reason) }

// RequestShutdown writes what the toolstack wants of the guest, "suspend" for one, see
// [xen.Domain.WaitSuspend]. The guest does nothing about it.
func (d *Domain) RequestShutdown(what string) { d.fake.RequestShutdown(what) }

// Remove makes the hypervisor forget the domain.
func (d *Domain) Remove() { d.fake.Remove() }

// Pauses returns the domain's pause count.
func (d *Domain) Pauses() int { return d.fake.Pauses() }

// Monitored reports whether the domain has a monitor ring.
func (d *Domain) Monitored() bool { return d.fake.Monitored() }

// Waiting returns how many answers a vCPU waits for.
func (d *Domain) Waiting(v xen.VCPU) int { return d.fake.Waiting(int(v)) }

// Stepping reports whether a vCPU single-steps.
func (d *Domain) Stepping(v xen.VCPU) bool { return d.fake.Stepping(int(v)) }

// View returns the view that a vCPU is in.
func (d *Domain) View(v xen.VCPU) xen.View { return xen.View(d.fake.View(int(v))) }

// ViewFrame returns whose page a view shows at gfn, and what access it allows.
func (d *Domain) ViewFrame(view xen.View, gfn xen.GFN) (xen.GFN, xen.Access) {
	e := d.fake.ViewEntry(uint16(view), uint64(gfn))
	return xen.GFN(e.GFN), xen.Access(e.Access)
}

// GuestRequests reports whether programs of the guest may make requests, see
// [xen.Monitor.EnableGuestRequest], and whether the vCPU waits then.
func (d *Domain) GuestRequests() (userspace, sync bool) {
	r := d.fake.GuestRequest()
	return d.fake.Event(abi.MonitorGuestRequest) && r.AllowUserspace != 0, r.Sync != 0
}

// Injected is an exception that [xen.Domain.InjectBreakpoint] has left for a
// vCPU.
type Injected struct {
	VCPU       xen.VCPU
	Vector     uint8
	InsnLength uint8
}

// Injected returns the exceptions injected so far.
func (d *Domain) Injected() []Injected {
	var all []Injected
	for _, e := range d.fake.Injected() {
		all = append(all, Injected{VCPU: xen.VCPU(e.VCPU), Vector: e.Vector, InsnLength: e.InsnLen})
	}
	return all
}

// cpuContext is the HVM context record that a vCPU's registers come from.
func cpuContext(r *xen.Registers) *abi.HVMHWCPU {
	c := &abi.HVMHWCPU{
		RAX: r.RAX, RBX: r.RBX, RCX: r.RCX, RDX: r.RDX, RBP: r.RBP, RSI: r.RSI, RDI: r.RDI, RSP: r.RSP,
		R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15,
		RIP: r.RIP, RFLAGS: r.RFLAGS, CR0: r.CR0, CR2: r.CR2, CR3: r.CR3, CR4: r.CR4, DR6: r.DR6, DR7: r.DR7,
		ShadowGS: r.ShadowGS, EFER: r.EFER, STAR: r.STAR, LSTAR: r.LSTAR,
		SysenterCS: r.SysenterCS, SysenterESP: r.SysenterESP, SysenterEIP: r.SysenterEIP,
		GDTRBase: r.GDTRBase, GDTRLimit: r.GDTRLimit,
	}
	for _, s := range []struct {
		from           *xen.Segment
		sel, ar, limit *uint32
		base           *uint64
	}{
		{&r.CS, &c.CSSel, &c.CSAR, &c.CSLimit, &c.CSBase},
		{&r.SS, &c.SSSel, &c.SSAR, &c.SSLimit, &c.SSBase},
		{&r.DS, &c.DSSel, &c.DSAR, &c.DSLimit, &c.DSBase},
		{&r.ES, &c.ESSel, &c.ESAR, &c.ESLimit, &c.ESBase},
		{&r.FS, &c.FSSel, &c.FSAR, &c.FSLimit, &c.FSBase},
		{&r.GS, &c.GSSel, &c.GSAR, &c.GSLimit, &c.GSBase},
	} {
		*s.sel, *s.ar, *s.limit, *s.base = uint32(s.from.Selector), uint32(s.from.Access), s.from.Limit, s.from.Base
	}
	return c
}
