package xen

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// ForkOptions configure [Domain.Fork]; nil means the zero value.
type ForkOptions struct {
	// BlockInterrupts keeps interrupts from the fork's vCPUs, so that it runs
	// on with what the parent was about. It is for short runs.
	BlockInterrupts bool
	// WithIOMMU allows a parent that devices are passed through to, which can
	// write to memory that the fork shares.
	WithIOMMU bool
}

// Fork makes the domain, which the toolstack has created with as many vCPUs as
// the parent has and has not started, a copy of the parent: its registers, and its
// memory, of which each page is shared until one of them writes to it. The domain is
// paused as it was, and runs on its own after its last [Domain.Unpause]. Devices and
// the toolstack's rings are not copied.
//
// The parent stands still until the last of its forks is destroyed, whatever becomes
// of this program: the pause is Xen's own, which [DomainInfo] does not tell of and
// nobody else can take back. To create domains and to destroy them is the toolstack's
// to do; xl does the latter, and xc_domain_create of libxenctrl the former.
//
// It takes a Xen built with CONFIG_MEM_SHARING, an Intel processor, and a parent with
// nested paging: the error matches [ErrNotSupported] otherwise. It matches [ErrExists]
// for a domain that has memory of its own, which Xen would not look at, [ErrBusy] for
// one that is not paused, and [ErrNoDomain] if one of both is not there. The interface
// is not a stable one of Xen's.
func (d *Domain) Fork(parent DomID, o *ForkOptions) error {
	const op = "memory_op sharing_op fork"
	if o == nil {
		o = &ForkOptions{}
	}
	if parent == d.id {
		return fault(op, d.id, ErrExists, "a domain cannot be a fork of itself")
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if info.Pages > 0 {
		return fault(op, d.id, ErrExists, fmt.Sprintf("the domain has %d pages: a fork is made of an empty one", info.Pages))
	}
	var flags uint16
	if o.BlockInterrupts {
		flags |= abi.ForkBlockInterrupts
	}
	if o.WithIOMMU {
		flags |= abi.ForkWithIOMMUAllowed
	}
	err = d.hyp.conn.Fork(uint16(d.id), uint16(parent), flags)
	kind, advice := error(nil), ""
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		advice = "it takes a Xen with CONFIG_MEM_SHARING and an Intel processor"
	case errors.Is(err, syscall.ENODEV):
		kind, advice = ErrNotSupported, "the domain or its parent has no nested paging (HAP)"
	case errors.Is(err, syscall.EXDEV):
		kind, advice = ErrNotSupported, "the domain or its parent may have devices passed through: see WithIOMMU"
	case errors.Is(err, syscall.EINVAL):
		advice = fmt.Sprintf("domain %d has another number of vCPUs", parent)
	case errors.Is(err, syscall.EBUSY):
		advice = "the domain to be the fork is not paused"
	}
	return d.failAs(op, kind, err, advice)
}

// ForkReset says what [Domain.ResetFork] resets.
type ForkReset struct {
	State  bool // the registers
	Memory bool // the pages that were written to, which are shared again
}

// ResetFork makes a fork what its parent is, in all or in part. Mappings of pages
// that are shared again show the old ones: map them anew.
//
// Before Xen 4.17 it resets all or nothing: the error matches [ErrNotSupported] there
// for a part, and for a domain that is no fork, which Xen answers as if it made none.
func (d *Domain) ResetFork(r ForkReset) error {
	const op = "memory_op sharing_op fork_reset"
	if !r.State && !r.Memory {
		return nil
	}
	var flags uint16
	switch v := d.hyp.version; {
	case v.Major > 4 || v.Minor >= 17:
		if r.State {
			flags |= abi.ForkResetState
		}
		if r.Memory {
			flags |= abi.ForkResetMemory
		}
	case !r.State || !r.Memory:
		return fault(op, d.id, ErrNotSupported, "before Xen 4.17 state and memory are reset together")
	}
	err := d.hyp.conn.ForkReset(uint16(d.id), flags)
	advice := ""
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP) {
		advice = "the domain is no fork, or Xen makes none: it takes CONFIG_MEM_SHARING and an Intel processor"
	}
	return d.fail(op, err, advice)
}
