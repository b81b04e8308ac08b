package privcmd

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

var (
	// ErrVersion says that no known interface version is spoken.
	ErrVersion = errors.New("no known interface version")
	// ErrPolicy says that the hypervisor's security policy (FLASK) forbids an
	// operation.
	ErrPolicy = errors.New("forbidden by the hypervisor's security policy")
)

// probeDomctl asks for the information of a domain that cannot exist. That is
// EACCES if the domctl version is wrong, whatever the policy, and else an error
// that has nothing to do with either.
func (c *Conn) probeDomctl() error {
	return sendDomctl[abi.GetDomainInfo](c, abi.DomctlGetDomainInfo, abi.DomIDFirstReserved, nil, nil)
}

// denied tells the meanings of EACCES apart. Versions are settled when a
// connection is made; but a host may go on with another hypervisor (live
// update), and then no operation works.
func (c *Conn) denied(err error) error {
	if !errors.Is(err, syscall.EACCES) {
		return err
	}
	if errors.Is(c.probeDomctl(), syscall.EACCES) {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return fmt.Errorf("%w: %w", ErrPolicy, err)
}
