package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/xen"
)

// exitAlive is the exit status beside those of [session.Status].
const exitAlive = 3

const usage = `usage: recover -domain NAME|ID [-journal FILE] [-views] [-keep-paused]

Brings a Xen guest back whose monitor was killed: puts its memory back as it was,
lets its vCPUs run on, and takes back what it was given. Runs as root in dom0.
Exit status: 0 the guest is back, or nothing was wrong with it; 1 it is not;
2 wrong usage; 3 its monitor is alive.

`

type options struct {
	domain string
	how    journal.RecoverOptions
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("recover", usage, stderr)
	f.DomainVar(&o.domain)
	f.StringVar(&o.how.Path, "journal", "", "the `file` that the monitor kept; default is /run/govmi/domain-ID.journal")
	f.BoolVar(&o.how.AltP2MOff, "views", false, "turn altp2m off even if no journal says that the monitor turned it on")
	f.BoolVar(&o.how.KeepPaused, "keep-paused", false, "leave the guest paused if it is: Xen does not know whose pause that is")
	return o, f.Parse(args)
}

// run is the program, on a hypervisor opened with x.
func run(x *xen.Options, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return session.Status("recover", err, stderr)
	}
	r, err := recovery(x, o)
	if r != nil {
		report(stdout, r, err == nil)
	}
	status := session.Status("recover", err, stderr)
	if err != nil && r != nil && r.Alive {
		status = exitAlive
	}
	return status
}

func recovery(x *xen.Options, o options) (r *journal.Report, err error) {
	h, err := xen.Open(x)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	d, err := h.LookupDomain(o.domain)
	if err != nil {
		return nil, err
	}
	return session.Recover(d, &o.how)
}

// report prints what was found and done, a line each.
func report(w io.Writer, r *journal.Report, done bool) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	if r.Stale {
		line("%s is about an earlier domain: dropped", r.Path)
	}
	if r.Torn {
		line("%s ends within a record: the monitor died before what it is about", r.Path)
	}
	if n := len(r.Restored); n > 0 {
		line("%d patched bytes put back: %v", n, list(r.Restored))
	}
	if n := len(r.Changed); n > 0 {
		line("%d patched bytes left alone, the guest has something else there now: %v", n, list(r.Changed))
	}
	if !done {
		return
	}
	if r.Ring {
		line("the monitor's ring is gone, with its events; vCPUs that waited for an answer run on")
	}
	if r.Reopened {
		line("the guest may do everything again with the frames that were watched")
	}
	if r.AltP2M {
		line("altp2m is off, %d views dropped", r.Views)
	}
	if n := len(r.Frames); n > 0 {
		line("%d pages taken back: %v", n, list(r.Frames))
	}
	if n := len(r.Doubtful); n > 0 {
		line("%d pages left, they may be the guest's own: %v", n, list(r.Doubtful))
	}
	switch {
	case r.LimitKept:
		line("the memory limit is %d pages, as somebody else has set it since", r.MaxPages)
	case r.MaxPages > 0:
		line("the memory limit is %d pages again", r.MaxPages)
	}
	switch {
	case r.Nothing():
		line("nothing to recover")
	case r.Paused:
		line("the guest was paused")
	}
}

// list is the first of many.
func list[T fmt.Stringer](all []T) string {
	const most = 8
	var b strings.Builder
	for i, v := range all {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(all)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.String())
	}
	return b.String()
}
