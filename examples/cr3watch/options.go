package main

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/govmi/govmi/examples/internal/session"
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

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("cr3watch", usage, stderr)
	var pids string
	f.DomainVar(&o.domain)
	f.StringVar(&pids, "pid", "", "watch the processes with these `ids` in the guest, separated by commas")
	f.StringVar(&o.comm, "comm", "", "watch the processes that have this command `name` now")
	f.BoolVar(&o.quiet, "q", false, "print the counts at the end only")
	f.DurationVar(&o.time, "for", 0, "end after this `time`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case (pids == "") == (o.comm == ""):
		return o, f.Refuse("one of -pid and -comm is needed")
	case o.time < 0:
		return o, f.Refuse("-for %v has passed", o.time)
	}
	for p := range strings.SplitSeq(pids, ",") {
		if pids == "" {
			break
		}
		n, err := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
		if err != nil || !session.ValidPID(n) {
			return o, f.Refuse("-pid %q is no process id", p)
		}
		o.pids = append(o.pids, int32(n))
	}
	return o, nil
}
