package xen

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Sentinels for errors.Is. The errors that this package returns are [*Error]
// values that match one of these where the cause is known.
var (
	// ErrPlatform: this program does not run in a Xen control domain (Linux
	// dom0 on amd64).
	ErrPlatform = errors.New("needs a Xen control domain (Linux dom0)")
	// ErrNotSupported: the hypervisor, the processor or this kind of domain
	// lacks the operation.
	ErrNotSupported = errors.New("not supported")
	// ErrPermission: the caller is not allowed to do this.
	ErrPermission = errors.New("permission denied")
	// ErrVersion: the hypervisor speaks an interface version that this
	// package does not know.
	ErrVersion = errors.New("unknown interface version")
	// ErrNoDomain: there is no such domain, or it has died since.
	ErrNoDomain = errors.New("no such domain")
	// ErrBusy: another monitor holds the domain's monitor ring, or one died
	// and left it behind.
	ErrBusy = errors.New("busy")
	// ErrClosed: the object was closed.
	ErrClosed = errors.New("closed")
)

// NoDomID stands in [Error].Domain for an operation that names no domain. It
// is Xen's DOMID_INVALID.
const NoDomID DomID = 0x7ff4

// Error is a failed operation. Errno is Xen's or the kernel's answer; their
// numbers are the same. It is zero if this package found the fault itself.
type Error struct {
	Op     string // what was tried, in Xen's words: "domctl pausedomain"
	Domain DomID  // NoDomID if the operation names no domain
	Errno  syscall.Errno
	Advice string // what is wrong or what to do about it, if known

	kind error // overrides what Errno says in Is
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("xen: ")
	if e.Domain != NoDomID {
		fmt.Fprintf(&b, "domain %d: ", e.Domain)
	}
	b.WriteString(e.Op)
	switch {
	case e.Advice != "":
		b.WriteString(": ")
		b.WriteString(e.Advice)
	case e.kind != nil:
		b.WriteString(": ")
		b.WriteString(e.kind.Error())
	}
	if e.Errno != 0 {
		fmt.Fprintf(&b, " (%s)", e.Errno.Error())
	}
	return b.String()
}

// Unwrap returns the errno, so that errors.Is(err, syscall.EBUSY) works, or
// nil.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Is matches the sentinels of this package.
func (e *Error) Is(target error) bool {
	kind := e.kind
	if kind == nil {
		kind = errnoKind(e.Errno)
	}
	return kind != nil && kind == target
}

func errnoKind(errno syscall.Errno) error {
	switch errno {
	case syscall.EPERM, syscall.EACCES:
		// A wrong domctl version is EACCES too, but versions are settled in
		// Open; afterwards EACCES is a denial by FLASK.
		return ErrPermission
	case syscall.ESRCH:
		return ErrNoDomain
	case syscall.EBUSY:
		return ErrBusy
	case syscall.EOPNOTSUPP, syscall.ENOSYS:
		return ErrNotSupported
	}
	return nil
}
