package xen

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/privcmd"
)

// Build says how the running hypervisor was built and booted. What the caller
// may not see, by Xen's rules for domains without control of others, is empty or
// "<denied>".
type Build struct {
	Compiler    string // such as "gcc (Debian 12.2.0-14) 12.2.0"
	By, Domain  string // who built it, and where
	Date        string
	Changeset   string // of its source
	CommandLine string // up to 1023 bytes of it
}

// Build asks how the hypervisor was built and booted.
func (h *Hypervisor) Build() (Build, error) {
	var b Build
	var err error
	if b.Compiler, b.By, b.Domain, b.Date, err = h.conn.XenCompileInfo(); err != nil {
		return b, fail("xen_version compile_info", NoDomID, err, "")
	}
	if b.Changeset, err = h.conn.XenChangeset(); err != nil {
		return b, fail("xen_version changeset", NoDomID, err, "")
	}
	b.CommandLine, err = h.conn.XenCommandLine()
	return b, fail("xen_version commandline", NoDomID, err, "")
}

// BootOption returns the value of a yes-or-no option of Xen's command line, of
// which the last wins; given says whether it is there at all with a value that
// Xen takes for one. "name", "name=yes" and the like are yes, "no-name",
// "name=0" and the like are no.
func (b *Build) BootOption(name string) (on, given bool) {
	for word := range strings.FieldsSeq(b.CommandLine) {
		if word == "no-"+name {
			on, given = false, true
			continue
		}
		key, value, has := strings.Cut(word, "=")
		if key != name {
			continue
		}
		switch {
		case !has, value == "1", value == "yes", value == "on", value == "true", value == "enable":
			on, given = true, true
		case value == "0", value == "no", value == "off", value == "false", value == "disable":
			on, given = false, true
		}
	}
	return on, given
}

// HostInfo is what Xen knows of the machine.
type HostInfo struct {
	CPUs int // online
	// VMX and SVM are the processor's virtualization, of Intel and of AMD. Both
	// are false where the firmware turned it off.
	VMX, SVM bool
	HVM      bool // Xen can run guests with it
	HAP      bool // and with nested page tables (EPT, NPT)
	Shadow   bool // and with shadow page tables
	VMTrace  bool // and trace them with Intel PT
	Pages    uint64
	Free     uint64 // pages that no domain has
}

// Host asks what Xen knows of the machine.
func (h *Hypervisor) Host() (HostInfo, error) {
	version, err := h.sysctlVersion()
	if err != nil {
		return HostInfo{}, err
	}
	p, err := h.conn.PhysInfo(version)
	if err != nil {
		return HostInfo{}, fail("sysctl physinfo", NoDomID, err, "")
	}
	return HostInfo{
		CPUs:    int(p.CPUs),
		VMX:     p.HWCap[abi.HWCapVMXWord]&abi.HWCapVMX != 0,
		SVM:     p.HWCap[abi.HWCapSVMWord]&abi.HWCapSVM != 0,
		HVM:     p.Capabilities&abi.PhysCapHVM != 0,
		HAP:     p.Capabilities&abi.PhysCapHAP != 0,
		Shadow:  p.Capabilities&abi.PhysCapShadow != 0,
		VMTrace: p.Capabilities&abi.PhysCapVMTrace != 0,
		Pages:   p.TotalPages,
		Free:    p.FreePages,
	}, nil
}

// Policy is what the hypervisor's security policy (FLASK) does.
type Policy int

// The policies.
const (
	PolicyNone       Policy = iota // there is none: control domains may do everything
	PolicyPermissive               // it notes what it would deny
	PolicyEnforcing                // it denies; the errors match [ErrPermission]
)

func (p Policy) String() string {
	switch p {
	case PolicyNone:
		return "none"
	case PolicyPermissive:
		return "permissive"
	case PolicyEnforcing:
		return "enforcing"
	}
	return fmt.Sprintf("policy %d", int(p))
}

// Policy asks whether there is a security policy. What it lets this domain do
// can only be tried.
func (h *Hypervisor) Policy() (Policy, error) {
	enforcing, err := h.conn.FlaskEnforcing()
	switch {
	case errors.Is(err, syscall.ENOSYS):
		return PolicyNone, nil
	case err != nil:
		return PolicyNone, fail("xsm_op getenforce", NoDomID, err, "")
	case enforcing:
		return PolicyEnforcing, nil
	}
	return PolicyPermissive, nil
}

// Console returns what the hypervisor has said, by its own console, as far as it
// still has it: xl dmesg prints the same. The start of the oldest line may be
// missing.
func (h *Hypervisor) Console() ([]byte, error) {
	const op, batch, most = "sysctl readconsole", 64 << 10, 16 << 20
	version, err := h.sysctlVersion()
	if err != nil {
		return nil, err
	}
	var said []byte
	for index := uint32(0); len(said) < most; {
		b, end, err := h.conn.ReadConsole(version, index, batch)
		if err != nil {
			return said, fail(op, NoDomID, err, "")
		}
		if said = append(said, b...); len(b) < batch {
			break
		}
		index = end
	}
	return said, nil
}

// sysctlVersion returns the version of Xen's sysctls.
func (h *Hypervisor) sysctlVersion() (uint32, error) {
	version, err := h.sysctl()
	if errors.Is(err, privcmd.ErrVersion) {
		return 0, fault("sysctl version", NoDomID, ErrVersion, fmt.Sprintf(
			"Xen %v speaks no version from %#x to %#x (Xen 4.14 to 4.22)", h.version, abi.SysctlVersionMin, abi.SysctlVersionMax))
	}
	return version, fail("sysctl getdomaininfolist", NoDomID, err, "")
}
