package xen

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/privcmd"
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
	// ErrPermission: the caller is not allowed to do this. [Error].Errno is
	// EPERM where only a control domain may, or the kernel lets this program
	// make no hypercalls, and EACCES where a security policy (FLASK), the
	// device's file mode or xenstored forbids it.
	ErrPermission = errors.New("permission denied")
	// ErrVersion: the hypervisor speaks an interface version that this
	// package does not know. Xen says EACCES to that as well; this package
	// finds out which of the two it is.
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
	errors.As(err, &e.Errno)
	switch {
	case errors.Is(err, device.ErrPlatform):
		e.kind = ErrPlatform
	case errors.Is(err, privcmd.ErrVersion):
		e.kind = ErrVersion
		e.Advice = "the hypervisor speaks other versions than when it was opened: start this program anew"
	case errors.Is(err, privcmd.ErrPolicy):
		e.Advice = "Xen's security policy (FLASK) forbids it: xl dmesg shows what was denied"
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
