package vmi

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/xen"
)

var (
	// ErrNotPresent says that the guest's page tables do not map an address.
	// The error that wraps it is a [*NotPresentError].
	ErrNotPresent = errors.New("not present in the guest's page tables")
	// ErrPagedOut says that the guest's page tables do not map an address, but
	// note something in its place: a page that was swapped out, is on its way
	// elsewhere, or was made inaccessible. The error that wraps it is a
	// [*NotPresentError] and matches [ErrNotPresent] as well.
	ErrPagedOut = errors.New("paged out by the guest")
	// ErrNotMapped says that a guest frame could not be mapped. The error that
	// wraps it is a [*NotMappedError].
	ErrNotMapped = errors.New("guest frame cannot be mapped")
	// ErrClosed is returned by a [Memory] after Close.
	ErrClosed = errors.New("guest memory is closed")
	// ErrPinned says that [Memory.Page] was asked for more frames than the
	// cache may pin.
	ErrPinned = errors.New("too many pinned guest frames")
)

// NotPresentError is a failed address translation. It matches
// [ErrNotPresent].
type NotPresentError struct {
	Addr VirtAddr
	// Level is the level of the table whose entry is not present: 1 for a page
	// table, 4 or 5 for the root; 0 for an address that is not canonical.
	Level int
	// Entry is that entry. If it is not 0 the error matches [ErrPagedOut].
	Entry uint64
}

func (e *NotPresentError) Error() string {
	if e.Level == 0 {
		return fmt.Sprintf("%v is not a canonical address", e.Addr)
	}
	if e.Entry != 0 {
		return fmt.Sprintf("%v is %v (entry %#x of level %d)", e.Addr, ErrPagedOut, e.Entry, e.Level)
	}
	return fmt.Sprintf("%v is %v (level %d)", e.Addr, ErrNotPresent, e.Level)
}

// Is reports whether target is [ErrNotPresent], or [ErrPagedOut] if the guest
// notes something for the address.
func (e *NotPresentError) Is(target error) bool {
	return target == ErrNotPresent || target == ErrPagedOut && e.Entry != 0
}

// NotMappedError is a frame that the [FrameMapper] refused. It matches
// [ErrNotMapped] and wraps the mapper's error.
type NotMappedError struct {
	GFN xen.GFN
	Err error
}

func (e *NotMappedError) Error() string {
	return fmt.Sprintf("guest frame %v cannot be mapped: %v", e.GFN, e.Err)
}

// Is reports whether target is [ErrNotMapped].
func (e *NotMappedError) Is(target error) bool { return target == ErrNotMapped }

func (e *NotMappedError) Unwrap() error { return e.Err }
