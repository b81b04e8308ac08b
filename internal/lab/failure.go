package lab

import (
	"errors"
	"fmt"
	"strings"

	"github.com/govmi/govmi/internal/lab/lane"
)

// How a job or a boot fails, apart from a program's own exit status. A [*Failure] wraps one of them.
var (
	// ErrXenPanic reports that the hypervisor crashed.
	ErrXenPanic = lane.ErrXenPanic
	// ErrDom0Panic reports that dom0's kernel crashed.
	ErrDom0Panic = lane.ErrDom0Panic
	// ErrDom0Init reports that dom0's user space did not come up, or that its agent ended.
	ErrDom0Init = lane.ErrDom0Init
	// ErrGuestPanic reports that a guest's kernel crashed while a job ran that did not expect it.
	ErrGuestPanic = errors.New("a guest's kernel has panicked")
	// ErrHang reports that a job's time was up, or that there was no sign of life for too long.
	ErrHang = errors.New("the lab hangs")
	// ErrLost reports that the emulator ended or that its control port broke.
	ErrLost = errors.New("the lab is lost")
	// ErrJob reports that the agent could not run a job or bring back its results.
	ErrJob = errors.New("the job could not be run")
	// ErrEmpty reports a test binary that ran no test.
	ErrEmpty = errors.New("empty run: no test has run")
	// ErrNoVerdict reports a test binary that exited with status 0 without saying PASS.
	ErrNoVerdict = errors.New("the test binary did not say PASS")
	// ErrClosed reports the use of a session that was closed.
	ErrClosed = errors.New("the lab is closed")
)

// kinds names the failures for their way through a socket.
var kinds = map[string]error{
	"xen-panic": ErrXenPanic, "dom0-panic": ErrDom0Panic, "dom0-init": ErrDom0Init, "guest-panic": ErrGuestPanic, "hang": ErrHang,
	"lost": ErrLost, "job": ErrJob, "empty": ErrEmpty, "no-verdict": ErrNoVerdict, "closed": ErrClosed,
}

// Failure is a failed job or boot.
type Failure struct {
	// Kind is one of the errors of this package.
	Kind error
	// Detail says more, and may be empty.
	Detail string
	// Console is the end of the console that shows why: that of Xen and dom0, or the guest's for [ErrGuestPanic].
	Console string
}

func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(f.Kind.Error())
	if f.Detail != "" {
		b.WriteString(": " + f.Detail)
	}
	if f.Console != "" {
		name := "console of Xen and dom0"
		if errors.Is(f.Kind, ErrGuestPanic) {
			name = "console of the guest"
		}
		fmt.Fprintf(&b, "\n--- %s, its end ---\n%s\n---", name, strings.TrimSpace(f.Console))
	}
	return b.String()
}

func (f *Failure) Unwrap() error { return f.Kind }
