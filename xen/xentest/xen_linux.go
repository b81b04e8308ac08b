package xentest

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// Config describes a hypervisor and its processor. The zero value is a Xen 4.17
// on AMD.
type Config struct {
	// Version from 4.14 to 4.22; zero is 4.17.
	Version xen.Version
	// Intel has single-stepping, and views if AltP2M is set.
	Intel bool
	// AltP2M is altp2m=1 on Xen's command line.
	AltP2M bool
	// CommandLine is Xen's, without the altp2m that AltP2M adds.
	CommandLine string
	// CR3Filter is a Xen with the patches of this module's patches/xen.
	CR3Filter bool
	// Denied, if set, is the security policy: it is asked with a call's name,
	// as [Xen.Recorded] has it, and true denies it as FLASK does. It must not
	// call the fake.
	Denied func(call string) bool
}

// Xen is a fake hypervisor with an empty dom0.
type Xen struct {
	fake *xenfake.Xen
	t    *test
}

// New makes a hypervisor. The caller closes it.
func New(cfg *Config) *Xen {
	if cfg == nil {
		cfg = &Config{}
	}
	c := &xenfake.Config{
		Major: cfg.Version.Major, Minor: cfg.Version.Minor, Extra: cfg.Version.Extra,
		CR3Filter: cfg.CR3Filter, CommandLine: cfg.CommandLine,
		Flask: cfg.Denied != nil, Policy: cfg.Denied,
	}
	if cfg.AltP2M {
		c.CommandLine += " altp2m=1"
	}
	if cfg.Intel {
		c.Capabilities = capabilitiesIntel
		c.AltP2M, c.CR3Targets = cfg.AltP2M, cfg.CR3Filter
	}
	t := &test{}
	return &Xen{fake: xenfake.New(t, c), t: t}
}

// capabilitiesIntel is what Xen 4.17 says of its events on Intel, where AMD
// lacks bit 2.
const capabilitiesIntel = 0x1f7b | 1<<abi.MonitorSingleStep

// test takes errors for Close.
type test struct {
	errs    []error
	cleanup []func()
}

func (t *test) Helper()          {}
func (t *test) Cleanup(f func()) { t.cleanup = append(t.cleanup, f) }

func (t *test) Errorf(format string, args ...any) {
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

// Fatal is for a machine that is out of memory or descriptors.
func (t *test) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// Options are for [xen.Open].
func (x *Xen) Options() *xen.Options { return &xen.Options{Devices: x.fake} }

// Close ends the hypervisor and its domains; pages of theirs must not be used
// any more. The error tells, each in a line, what of it is still open or mapped,
// as a [xen.Hypervisor] or [xen.Monitor] that was not closed, and what was done
// that would have harmed a real Xen or its guest. Close is idempotent.
func (x *Xen) Close() error {
	for _, l := range x.fake.Leaks() {
		x.t.Errorf("xentest: left behind: %s", l)
	}
	for _, f := range x.t.cleanup {
		f()
	}
	err := errors.Join(x.t.errs...)
	x.t.errs, x.t.cleanup = nil, nil
	return err
}

// Calls returns how many calls were made so far: the ioctls and mappings of the
// Xen devices.
func (x *Xen) Calls() int { return x.fake.Calls() }

// FailCall makes the n'th call from now fail with errno and have no effect, n
// counting from 1. Zero takes it back. A test of all faults runs once to count
// the calls, and then once for each of them.
func (x *Xen) FailCall(n int, errno syscall.Errno) { x.fake.FailCall(n, errno) }

// Record starts, or ends, noting the names of calls.
func (x *Xen) Record(on bool) { x.fake.Record(on) }

// Recorded returns the names of the calls since [Xen.Record], such as "domctl
// pausedomain", "memory_op 6" or "evtchn notify".
func (x *Xen) Recorded() []string { return x.fake.Recorded() }

// KillProcesses ends the programs that use the hypervisor as the kernel does
// after kill -9: their devices, mappings and locks go, and what they told Xen
// stays. Nothing that they opened may be used or closed any more.
func (x *Xen) KillProcesses() { x.fake.KillProcesses() }
