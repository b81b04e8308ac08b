package xen

import (
	"fmt"
	"iter"
)

// Options configure [Open]. The nil pointer and the zero value use the
// kernel's devices.
type Options struct {
}

// Version is the hypervisor's release, for people. Nothing in this package
// follows from it where the hypervisor can be asked instead.
type Version struct {
	Major, Minor int
	Extra        string // such as ".4-pre"; empty if the caller may not see it
}

func (v Version) String() string { return fmt.Sprintf("%d.%d%s", v.Major, v.Minor, v.Extra) }

// Hypervisor is a connection to the Xen that this domain runs on. Its methods
// may be called from several goroutines.
type Hypervisor struct {
}

// Open connects to the hypervisor and negotiates its interface versions.
func Open(opts *Options) (*Hypervisor, error) { return nil, errUnfinished }

// Version returns the hypervisor's release.
func (h *Hypervisor) Version() Version { return Version{} }

// Domain returns the domain with the number id.
func (h *Hypervisor) Domain(id DomID) (*Domain, error) { return nil, errUnfinished }

// DomainByName returns the domain whose name in XenStore is name.
func (h *Hypervisor) DomainByName(name string) (*Domain, error) { return nil, errUnfinished }

// LookupDomain returns the domain with the given number or name.
func (h *Hypervisor) LookupDomain(nameOrID string) (*Domain, error) { return nil, errUnfinished }

// Domains returns all domains, dom0 included.
func (h *Hypervisor) Domains() iter.Seq2[DomainInfo, error] {
	return func(yield func(DomainInfo, error) bool) { yield(DomainInfo{}, errUnfinished) }
}

// Close releases the connection.
func (h *Hypervisor) Close() error { return nil }

var errUnfinished = &Error{Op: "not written yet", Domain: NoDomID}
