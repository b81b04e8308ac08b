package xen

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/govmi/govmi/internal/device"
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
	// ErrBusy: somebody else has it. Of a monitor: another one holds the domain's
	// ring, or died and left it behind; of a view: a vCPU is in it; of an
	// injection: another event waits.
	ErrBusy = errors.New("busy")
	// ErrExists: what should be made is there already.
	ErrExists = errors.New("exists already")
	// ErrNotFound: what is named is not there.
	ErrNotFound = errors.New("not found")
	// ErrNoSpace: a table of the hypervisor is full.
	ErrNoSpace = errors.New("no space left")
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

	kind  error // overrides what Errno says in Is
	cause error // what Errno came from, or an error without an errno
}

// fail wraps err, unless nil, as a failure of op on dom. advice may be empty.
func fail(op string, dom DomID, err error, advice string) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Domain: dom, Advice: advice, cause: err}
	if !errors.As(err, &e.Errno) && errors.Is(err, device.ErrPlatform) {
		e.kind = ErrPlatform
	}
	return e
}

// fault is an *Error that this package found itself.
func fault(op string, dom DomID, kind error, advice string) *Error {
	return &Error{Op: op, Domain: dom, Advice: advice, kind: kind}
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("xen: ")
	if e.Domain != NoDomID {
		fmt.Fprintf(&b, "domain %d: ", e.Domain)
	}
	b.WriteString(e.Op)
	if e.Advice != "" {
		b.WriteString(": ")
		b.WriteString(e.Advice)
	} else if e.kind != nil {
		b.WriteString(": ")
		b.WriteString(e.kind.Error())
	}
	switch {
	case e.Errno != 0:
		fmt.Fprintf(&b, " (%s)", e.Errno.Error())
	case e.cause != nil:
		fmt.Fprintf(&b, " (%s)", strings.ReplaceAll(e.cause.Error(), "\n", "; "))
	}
	return b.String()
}

// Unwrap returns the cause, usually a syscall.Errno or something around one,
// so that errors.Is(err, syscall.EBUSY) works. It is nil if there is none.
func (e *Error) Unwrap() error {
	if e.cause == nil && e.Errno != 0 {
		return e.Errno
	}
	return e.cause
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
	case syscall.EEXIST:
		return ErrExists
	case syscall.ENOENT:
		return ErrNotFound
	case syscall.ENOSPC:
		return ErrNoSpace
	}
	return nil
}
