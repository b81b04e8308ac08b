package xenfake

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
)

// TB is what the fake needs of a test, as testing.TB has it.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// Config describes a hypervisor. The zero value is a Xen 4.17.
type Config struct {
	Major, Minor int
	Extra        string
	// Versions of the interfaces; zero means the release's own.
	Domctl, Sysctl, VMEvent uint32
	// Missing devices fail to open with the error given.
	Missing map[device.Kind]error
	// Deny makes every hypercall of that number fail with the errno.
	Deny map[uint64]syscall.Errno
	// NoVMEvent is a Xen that was built without CONFIG_VM_EVENT, from 4.22 on.
	NoVMEvent bool
	// CommandLine is Xen's own.
	CommandLine string
	// Flask says that there is a security policy, enforced if Policy is set.
	Flask bool
	// Policy, if set, says which calls the security policy denies, by the names
	// that [Xen.Recorded] has. As FLASK does, it is asked after the versions.
	Policy func(call string) (denied bool)
	// StoreDenied has XenStore tell nothing of domains, as one that is not dom0
	// finds it.
	StoreDenied bool
	// Capabilities is what monitor_op reports; zero means those of AMD.
	Capabilities uint32
	// CR3Filter says that this Xen has the filter of CR3 writes, of
	// CR3FilterVersion (zero means the present one) and with the target list
	// if CR3Targets is set.
	CR3Filter        bool
	CR3FilterVersion uint32
	CR3Targets       bool
	// MemSharing is a Xen that was built with CONFIG_MEM_SHARING, for forks.
	MemSharing bool
	// AltP2M says that the processor and Xen's command line allow views.
	AltP2M bool
}

// Xen is a fake hypervisor and the dom0 kernel on top. Its methods may be
// called from several goroutines. It is a [device.Opener].
type Xen struct {
	cfg Config
	tb  TB

	mu         sync.Mutex
	domains    map[uint16]*Domain
	made       map[uint16]byte  // how many domains had a number
	built      int64            // domains so far
	hypercall  map[*byte][]byte // live mappings of hypercall memory
	foreign    map[*byte]*foreignMap
	files      int
	ports      map[uint32]*port
	nextPort   uint32
	calls      int
	log        []string
	logging    bool
	failAt     int
	failErr    syscall.Errno
	violations []string
	locks      map[string]bool
	stores     []*storeConn
}

var _ device.Opener = (*Xen)(nil)

// New returns a hypervisor with an empty dom0. When the test ends it fails the
// test if the rules of the ring were broken.
func New(tb TB, cfg *Config) *Xen {
	x := &Xen{
		tb:        tb,
		domains:   map[uint16]*Domain{},
		made:      map[uint16]byte{},
		hypercall: map[*byte][]byte{},
		foreign:   map[*byte]*foreignMap{},
		ports:     map[uint32]*port{},
		nextPort:  10,
	}
	if cfg != nil {
		x.cfg = *cfg
	}
	c := &x.cfg
	if c.Major == 0 {
		c.Major, c.Minor = 4, 17
	}
	if c.Domctl == 0 {
		c.Domctl = abi.DomctlVersion(c.Major, c.Minor)
	}
	if c.Sysctl == 0 {
		c.Sysctl = sysctlVersion(c.Minor)
	}
	if c.VMEvent == 0 {
		c.VMEvent = abi.VMEventV7
		if c.Minor <= 14 {
			c.VMEvent = abi.VMEventV6
		}
	}
	if c.Capabilities == 0 {
		c.Capabilities = 0x1f7b
	}
	if c.Minor < 17 {
		c.Capabilities &^= 1 << abi.MonitorVMExit
	}
	x.AddDomain(&DomainConfig{ID: 0, Name: "Domain-0", PV: true})
	tb.Cleanup(func() {
		for _, v := range x.Violations() {
			tb.Errorf("xenfake: %s", v)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, d := range x.domains {
			d.free()
		}
	})
	return x
}

func sysctlVersion(minor int) uint32 {
	switch {
	case minor <= 15:
		return 0x13
	case minor == 16:
		return 0x14
	case minor <= 20:
		return 0x15
	}
	return 0x16
}

// Domain returns the domain with the number id, or nil.
func (x *Xen) Domain(id uint16) *Domain {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.domains[id]
}

// FailCall makes the n'th call from now fail with errno and have no effect,
// n counting from 1. Calls are ioctls and mappings. Zero takes it back.
func (x *Xen) FailCall(n int, errno syscall.Errno) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failAt, x.failErr = 0, errno
	if n > 0 {
		x.failAt = x.calls + n
	}
}

// KillProcesses does what the kernel does at the end of the processes that use
// it: files, mappings and locks go, what the hypervisor was told stays. Nothing
// that they opened may be used any more, nor closed.
func (x *Xen) KillProcesses() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range x.ports {
		x.unbind(p)
	}
	x.files = 0
	clear(x.locks)
	clear(x.hypercall)
	clear(x.foreign)
}

// SetDomctlVersion has the hypervisor speak another version from now on.
func (x *Xen) SetDomctlVersion(v uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cfg.Domctl = v
}

// Calls returns the number of calls made so far.
func (x *Xen) Calls() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.calls
}

// Record starts (or stops) noting the calls' names for [Xen.Recorded].
func (x *Xen) Record(on bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.logging, x.log = on, nil
}

// Recorded returns the names of the calls made since [Xen.Record].
func (x *Xen) Recorded() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.log)
}

// Violations returns what has been done to the ring that would harm a real
// hypervisor.
func (x *Xen) Violations() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.violations)
}

// Leaks tells what is still open or mapped.
func (x *Xen) Leaks() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var leaks []string
	if x.files > 0 {
		leaks = append(leaks, fmt.Sprintf("%d open devices", x.files))
	}
	if n := len(x.hypercall); n > 0 {
		leaks = append(leaks, fmt.Sprintf("%d mappings of hypercall memory", n))
	}
	if n := len(x.foreign); n > 0 {
		leaks = append(leaks, fmt.Sprintf("%d mappings of foreign memory", n))
	}
	if n := len(x.locks); n > 0 {
		leaks = append(leaks, fmt.Sprintf("%d locks", n))
	}
	if n := len(x.ports); n > 0 {
		leaks = append(leaks, fmt.Sprintf("%d bound event channels", n))
	}
	return leaks
}

// call counts a call and says whether it has to fail. x.mu is held.
func (x *Xen) call(name string) error {
	x.calls++
	if x.logging {
		x.log = append(x.log, name)
	}
	if x.calls == x.failAt {
		return x.failErr
	}
	return nil
}

func (x *Xen) violate(format string, args ...any) {
	x.violations = append(x.violations, fmt.Sprintf(format, args...))
}
