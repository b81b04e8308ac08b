package main

import (
	"io"
	"strings"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session"
)

// options are what the command line says.
type options struct {
	domain  string
	pid     int
	comm    string
	calls   []string // nil: all
	summary bool
	file    string
	json    bool
	column  int
	// perfetto has Chrome's trace event format written.
	perfetto bool

	follow     bool
	mechanisms []cr3filter.Mechanism // nil: the best that there is
	noViews    bool

	journal string
	restart bool
}

const usage = `usage: syscalltrace -domain NAME|ID [-pid N | -comm NAME] [-f] [-e CALL,...] [-c] [-o FILE] [-json | -perfetto]

Prints the system calls of a Xen guest's processes in strace's form. Without
-pid and -comm it traces every process of the guest. Runs as root in dom0.

`

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("syscalltrace", usage, stderr)
	var calls, by string
	f.DomainVar(&o.domain)
	f.IntVar(&o.pid, "pid", 0, "trace the threads of the process with this `id` in the guest, until it ends")
	f.StringVar(&o.comm, "comm", "", "trace the processes with this command `name`, also those that start later")
	f.BoolVar(&o.follow, "f", false, "with -pid, trace the processes that it forks as well")
	f.StringVar(&by, "filter", "", "tell the processes apart in `xen`, here (by all CR3 writes), or by each hit (xen, here, hit); default is the best that there is")
	f.BoolVar(&o.noViews, "noviews", false, "patch the guest's own memory even if it may have altp2m views")
	f.StringVar(&calls, "e", "", "trace only these system `calls`, separated by commas")
	f.BoolVar(&o.summary, "c", false, "print a table of counts and times at the end, and no calls")
	f.StringVar(&o.file, "o", "", "write to `file` instead of standard output")
	f.BoolVar(&o.json, "json", false, "print one JSON object per call")
	f.StringVar(&o.journal, "journal", "", "keep what \"recover\" needs, should this program be killed, in this `file`, which it has to be told; default is /run/govmi/domain-ID.journal")
	f.BoolVar(&o.restart, "restart", false, "if the tracer is killed, bring the guest back and trace on")
	f.BoolVar(&o.perfetto, "perfetto", false, "write a trace in Chrome's format for ui.perfetto.dev, a track per thread; times are dom0's monotonic clock at the event")
	f.IntVar(&o.column, "a", 0, "align return values at this `column`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if err := f.CheckProcess(o.pid, o.comm); err != nil {
		return o, err
	}
	switch {
	case o.follow && !f.Given("pid"):
		return o, f.Refuse("-f goes with -pid")
	case f.Given("filter") && filters[by] == 0:
		return o, f.Refuse("-filter %q is none of xen, here, hit", by)
	case o.json && o.summary:
		return o, f.Refuse("-json and -c exclude each other")
	case o.perfetto && (o.json || o.summary):
		return o, f.Refuse("-perfetto excludes -json and -c")
	case o.column < 0 || o.column > 1000:
		return o, f.Refuse("-a %d is no column", o.column)
	}
	if f.Given("filter") {
		o.mechanisms = []cr3filter.Mechanism{filters[by]}
	}
	if f.Given("e") {
		for name := range strings.SplitSeq(strings.TrimPrefix(calls, "trace="), ",") {
			if name = strings.TrimSpace(name); name == "" {
				return o, f.Refuse("-e %q has an empty name", calls)
			}
			o.calls = append(o.calls, name)
		}
	}
	return o, nil
}

var filters = map[string]cr3filter.Mechanism{
	"xen": cr3filter.FilteredByXen, "here": cr3filter.FilteredHere, "hit": cr3filter.EveryHit,
}
