package xenfake

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/abi"
)

// DomainConfig describes a domain. The zero value is a running PVH guest with
// one vCPU.
type DomainConfig struct {
	ID     uint16
	Name   string
	PV     bool
	Shadow bool // shadow paging in place of nested page tables
	VCPUs  int
	Frames int // populated from frame 0 on; 0 means 16
	// NoRingPage leaves the monitor ring's parameter unset.
	NoRingPage bool
	// Empty is a domain that was created, and no more: without memory, and paused.
	Empty  bool
	AltP2M bool // its configuration allows views
	// UUID is the domain's own; zero is a new one. The same guest has it again
	// after a reboot.
	UUID [16]byte
}

const (
	ringGFN    = 0xfeff0 // where the toolstack puts the ring's page
	storeGFN   = 0xfefec
	consoleGFN = 0xfefef
	spareSlots = 64 // frames that can be populated later
)

// Domain is a fake guest.
type Domain struct {
	x   *Xen
	cfg DomainConfig

	uuid [16]byte
	// started is when the toolstack built it, in hundredths of a second.
	started int64
	onRun   func()
	fd      int    // memory file
	mem     []byte // all of it
	slots   map[uint64]int
	next    int // first unused slot
	max     int
	pages   int // that it may have
	dying   bool
	// shutdown is set if the domain has stopped itself, for a reason.
	shutdown bool
	reason   uint8
	wish     string // of the toolstack: see RequestShutdown
	pauses   int
	cpus     []abi.HVMHWCPU
	inject   []abi.InjectEvent

	ring    *ring
	waiting []int // pause count per vCPU, which outlives the ring
	// WaitQueue: a vCPU waits for room in a ring.
	waitQueue bool
	// Monitor state, as monitor_op left it.
	ctrlRegs  map[uint8]abi.MonitorCtrlReg
	events    map[uint32]bool // those without parameters, and their options
	request   abi.MonitorRequest
	msrs      map[uint32]abi.MonitorMSR
	cr3Filter *cr3Filter
	stepping  []bool // per vCPU
	altp2m    altp2m
	access    map[uint64]uint8
	deflt     uint8   // access of pages to come
	parent    *Domain // of a fork
	forks     int     // while there are some it stands still
}

// AddDomain creates a domain.
func (x *Xen) AddDomain(cfg *DomainConfig) *Domain {
	x.tb.Helper()
	d := &Domain{x: x, cfg: *cfg, slots: map[uint64]int{}, ctrlRegs: map[uint8]abi.MonitorCtrlReg{},
		events: map[uint32]bool{}, msrs: map[uint32]abi.MonitorMSR{},
		access: map[uint64]uint8{}, deflt: abi.AccessRWX}
	if d.cfg.VCPUs == 0 {
		d.cfg.VCPUs = 1
	}
	if d.cfg.Frames == 0 {
		d.cfg.Frames = 16
	}
	d.cpus = make([]abi.HVMHWCPU, d.cfg.VCPUs)
	d.waiting = make([]int, d.cfg.VCPUs)
	d.stepping = make([]bool, d.cfg.VCPUs)
	d.altp2m.cur = make([]uint16, d.cfg.VCPUs)
	d.max = d.cfg.Frames + spareSlots
	d.pages = d.max
	fd, err := unix.MemfdCreate("xenfake", unix.MFD_CLOEXEC)
	if err != nil {
		x.tb.Fatal(err)
	}
	d.fd = fd
	if err := unix.Ftruncate(fd, int64(d.max)*abi.PageSize); err != nil {
		x.tb.Fatal(err)
	}
	d.mem, err = unix.Mmap(fd, 0, d.max*abi.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		x.tb.Fatal(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if cfg.Empty {
		d.pauses = 1
	} else {
		for gfn := range uint64(d.cfg.Frames) {
			d.populate(gfn)
			clear(d.page(gfn))
		}
		if !d.cfg.PV && !d.cfg.NoRingPage {
			d.populate(ringGFN)
		}
	}
	x.made[cfg.ID]++
	if d.uuid = cfg.UUID; d.uuid == [16]byte{} {
		d.uuid = [16]byte{0: byte(cfg.ID), 15: x.made[cfg.ID]}
	}
	x.built++
	const epoch = 170000000000
	d.started = epoch + x.built
	x.domains[d.cfg.ID] = d
	x.changed("@introduceDomain")
	return d
}

func (d *Domain) free() {
	unix.Munmap(d.mem)
	unix.Close(d.fd)
}

// populate gives the domain a page full of rubbish at gfn.
func (d *Domain) populate(gfn uint64) bool {
	if _, there := d.slots[gfn]; there || d.next == d.max || len(d.slots) >= d.pages {
		return false
	}
	d.slots[gfn] = d.next
	d.next++
	for i := range d.page(gfn) {
		d.page(gfn)[i] = 0xa5
	}
	return true
}

func (d *Domain) page(gfn uint64) []byte {
	slot, ok := d.slots[gfn]
	if !ok {
		return nil
	}
	return d.mem[slot*abi.PageSize : (slot+1)*abi.PageSize]
}

func (d *Domain) maxGPFN() (gfn uint64) {
	for g := range d.slots {
		gfn = max(gfn, g)
	}
	return gfn
}

// ID returns the domain's number.
func (d *Domain) ID() uint16 { return d.cfg.ID }

// Page returns the page at gfn, shared with all mappings of it, or nil. It is
// valid until the test ends.
func (d *Domain) Page(gfn uint64) []byte {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.page(gfn)
}

// SetPage copies content into the page at gfn, which it makes if need be.
func (d *Domain) SetPage(gfn uint64, content []byte) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	if d.page(gfn) == nil && !d.populate(gfn) {
		panic(fmt.Sprintf("xenfake: no room for frame %#x", gfn))
	}
	clear(d.page(gfn))
	copy(d.page(gfn), content)
}

// RingPagePresent reports whether the guest has a page at the ring's frame
// number. While a monitor is attached it must not.
func (d *Domain) RingPagePresent() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.page(ringGFN) != nil
}

// SetCPU sets a vCPU's state.
func (d *Domain) SetCPU(vcpu int, cpu *abi.HVMHWCPU) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.cpus[vcpu] = *cpu
}

// Pauses returns the domain's pause count.
func (d *Domain) Pauses() int {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.pauses
}

// Monitored reports whether the domain has a monitor ring.
func (d *Domain) Monitored() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.ring != nil
}

// CtrlReg returns how a control register is monitored.
func (d *Domain) CtrlReg(index uint8) (cr abi.MonitorCtrlReg, on bool) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	cr, on = d.ctrlRegs[index]
	return cr, on
}

// Breakpoints reports whether software breakpoints are monitored.
func (d *Domain) Breakpoints() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.events[abi.MonitorSoftwareBreakpoint]
}

// Event reports whether an event without parameters is monitored.
func (d *Domain) Event(event uint32) bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.events[event]
}

// MSR returns how writes of an MSR are monitored.
func (d *Domain) MSR(msr uint32) (m abi.MonitorMSR, on bool) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	m, on = d.msrs[msr]
	return m, on
}

// GuestRequest returns how the guest's own requests are monitored.
func (d *Domain) GuestRequest() abi.MonitorRequest {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.request
}

// Injected returns the events injected into the domain so far.
func (d *Domain) Injected() []abi.InjectEvent {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return append([]abi.InjectEvent(nil), d.inject...)
}

// OnRun has f called whenever the last pause of the domain is taken back, before
// its vCPUs run on. f must not call the fake, except for what it has got from it.
func (d *Domain) OnRun(f func()) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.onRun = f
}

// GFNs returns the frames that have a page, but for the monitor ring's, in order.
func (d *Domain) GFNs() []uint64 {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	var all []uint64
	for gfn := range d.slots {
		if gfn != ringGFN {
			all = append(all, gfn)
		}
	}
	slices.Sort(all)
	return all
}

// MaxPages returns how many pages the domain may have.
func (d *Domain) MaxPages() int {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.pages
}

// SetWaitQueue makes a vCPU wait, or not, for room in a ring, which none of
// more than eight may find. Xen cannot disable a ring then.
func (d *Domain) SetWaitQueue(on bool) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.waitQueue = on
}

// Kill destroys the domain: it is dying as long as its memory is mapped or
// its ring in use, which for the fake means for ever. Its altp2m is off.
func (d *Domain) Kill() {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.dying = true
	d.altp2m.reset(false)
	d.x.changed("@releaseDomain")
}

// Shutdown has the domain stop itself.
func (d *Domain) Shutdown(reason uint8) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.shutdown, d.reason = true, reason
	d.x.changed("@releaseDomain")
}

// Remove makes the hypervisor forget the domain.
func (d *Domain) Remove() {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	delete(d.x.domains, d.cfg.ID)
	if d.parent != nil {
		d.parent.forks--
	}
	d.x.changed("@releaseDomain")
	d.x.tb.Cleanup(d.free)
}
