package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	domain string
	pids   []int32
	comm   string
	quiet  bool
	time   time.Duration
}

const usage = `usage: cr3watch -domain NAME|ID [-pid N,... | -comm NAME] [-q] [-for TIME]

Prints when a Xen guest switches to and from the chosen processes, and how often
it did. Runs as root in dom0.

`

// errUsage is a command line that was refused; the reason has been printed.
var errUsage = errors.New("usage")

// maxPID is the kernel's PID_MAX_LIMIT.
const maxPID = 4 << 20

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("cr3watch", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	var pids string
	f.StringVar(&o.domain, "domain", "", "the guest, by `name or id`")
	f.StringVar(&pids, "pid", "", "watch the processes with these `ids` in the guest, separated by commas")
	f.StringVar(&o.comm, "comm", "", "watch the processes that have this command `name` now")
	f.BoolVar(&o.quiet, "q", false, "print the counts at the end only")
	f.DurationVar(&o.time, "for", 0, "end after this `time`")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	refuse := func(format string, args ...any) (options, error) {
		fmt.Fprintf(stderr, "cr3watch: "+format+"; see -help\n", args...)
		return o, errUsage
	}
	switch {
	case f.NArg() > 0:
		return refuse("unexpected argument %q", f.Arg(0))
	case o.domain == "":
		return refuse("-domain is missing")
	case (pids == "") == (o.comm == ""):
		return refuse("one of -pid and -comm is needed")
	case o.time < 0:
		return refuse("-for %v has passed", o.time)
	}
	for p := range strings.SplitSeq(pids, ",") {
		if pids == "" {
			break
		}
		n, err := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
		if err != nil || n <= 0 || n > maxPID {
			return refuse("-pid %q is no process id", p)
		}
		o.pids = append(o.pids, int32(n))
	}
	return o, nil
}
