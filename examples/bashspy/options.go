package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// options are what the command line says.
type options struct {
	domain  string
	pid     int
	comm    string
	file    string
	json    bool
	noViews bool
}

const usage = `usage: bashspy -domain NAME|ID -pid N | -comm NAME [-o FILE] [-json]

Prints what is typed (<) and printed (>) in one session of a shell in a Xen guest,
by the shell and the programs that it starts. Control characters of the guest's are
shown as text. Runs as root in dom0.

`

// errUsage is a command line that was refused; the reason has been printed.
var errUsage = errors.New("usage")

// maxPID is the kernel's PID_MAX_LIMIT.
const maxPID = 4 << 20

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bashspy", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	f.StringVar(&o.domain, "domain", "", "the guest, by `name or id`")
	f.IntVar(&o.pid, "pid", 0, "watch the shell with this process `id` in the guest, until it ends")
	f.StringVar(&o.comm, "comm", "", "watch the only shell that has this command `name` and a terminal")
	f.StringVar(&o.file, "o", "", "write to `file` instead of standard output")
	f.BoolVar(&o.json, "json", false, "print one JSON object per read and write, with the bytes")
	f.BoolVar(&o.noViews, "noviews", false, "patch the guest's own memory even if it may have altp2m views")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	refuse := func(format string, args ...any) (options, error) {
		fmt.Fprintf(stderr, "bashspy: "+format+"; see -help\n", args...)
		return o, errUsage
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case f.NArg() > 0:
		return refuse("unexpected argument %q", f.Arg(0))
	case o.domain == "":
		return refuse("-domain is missing")
	case set["pid"] == set["comm"]:
		return refuse("one of -pid and -comm is needed")
	case set["pid"] && (o.pid <= 0 || o.pid > maxPID):
		return refuse("-pid %d is no process id", o.pid)
	case set["comm"] && o.comm == "":
		return refuse("-comm is empty")
	}
	return o, nil
}
