package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/govmi/govmi/cr3filter"
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

// errUsage is a command line that was refused; the reason has been printed.
var errUsage = errors.New("usage")

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("syscalltrace", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	var calls, by string
	f.StringVar(&o.domain, "domain", "", "the guest, by `name or id`")
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
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	refuse := func(format string, args ...any) (options, error) {
		fmt.Fprintf(stderr, "syscalltrace: "+format+"; see -help\n", args...)
		return o, errUsage
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case f.NArg() > 0:
		return refuse("unexpected argument %q", f.Arg(0))
	case o.domain == "":
		return refuse("-domain is missing")
	case set["pid"] && set["comm"]:
		return refuse("-pid and -comm exclude each other")
	case set["pid"] && (o.pid <= 0 || o.pid > maxPID):
		return refuse("-pid %d is no process id", o.pid)
	case set["comm"] && o.comm == "":
		return refuse("-comm is empty")
	case o.follow && !set["pid"]:
		return refuse("-f goes with -pid")
	case set["filter"] && filters[by] == 0:
		return refuse("-filter %q is none of xen, here, hit", by)
	case o.json && o.summary:
		return refuse("-json and -c exclude each other")
	case o.perfetto && (o.json || o.summary):
		return refuse("-perfetto excludes -json and -c")
	case o.column < 0 || o.column > 1000:
		return refuse("-a %d is no column", o.column)
	}
	if set["filter"] {
		o.mechanisms = []cr3filter.Mechanism{filters[by]}
	}
	if set["e"] {
		for name := range strings.SplitSeq(strings.TrimPrefix(calls, "trace="), ",") {
			if name = strings.TrimSpace(name); name == "" {
				return refuse("-e %q has an empty name", calls)
			}
			o.calls = append(o.calls, name)
		}
	}
	return o, nil
}

var filters = map[string]cr3filter.Mechanism{
	"xen": cr3filter.FilteredByXen, "here": cr3filter.FilteredHere, "hit": cr3filter.EveryHit,
}

// maxPID is the kernel's PID_MAX_LIMIT.
const maxPID = 4 << 20
