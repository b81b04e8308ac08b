package main

import (
	"io"
	"strings"

	"github.com/govmi/govmi/examples/internal/session"
)

// options are what the command line says.
type options struct {
	domain    string
	pid       int
	comm      string
	functions []string
	limit     int
	file      string
	form      form
	follow    bool
	noViews   bool
}

// form is how calls are written.
type form int

const (
	formTree form = iota
	formJSON
	formPerfetto
)

const usage = `usage: funcgraph -domain NAME|ID -pid N [-f] | -comm NAME -func NAME,... [-o FILE] [-json | -perfetto]

Prints the calls of functions of a Xen guest's kernel by a process, as a tree with
times. The times are dom0's monotonic clock when the monitor sees a function's
entry and end, so that what monitoring costs is in them. Runs as root in dom0.

`

const (
	// maxFunctions bounds the breakpoints' frames in a view, of which each
	// function may need some.
	maxFunctions = 1000
)

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("funcgraph", usage, stderr)
	var functions string
	var json, perfetto bool
	f.DomainVar(&o.domain)
	f.IntVar(&o.pid, "pid", 0, "trace the threads of the process with this `id` in the guest, until it ends")
	f.StringVar(&o.comm, "comm", "", "trace the processes with this command `name`, also those that start later")
	f.BoolVar(&o.follow, "f", false, "with -pid, trace the processes that it forks as well")
	f.StringVar(&functions, "func", "", "the kernel's `functions`, separated by commas; * and ? stand for any characters")
	f.IntVar(&o.limit, "max", 100, "refuse more `functions` than this")
	f.StringVar(&o.file, "o", "", "write to `file` instead of standard output")
	f.BoolVar(&json, "json", false, "print one JSON object per call, when it ends")
	f.BoolVar(&perfetto, "perfetto", false, "write a trace in Chrome's format for ui.perfetto.dev")
	f.BoolVar(&o.noViews, "noviews", false, "patch the guest's own memory even if it may have altp2m views")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if err := f.NeedProcess(o.pid, o.comm); err != nil {
		return o, err
	}
	switch {
	case o.follow && !f.Given("pid"):
		return o, f.Refuse("-f goes with -pid")
	case functions == "":
		return o, f.Refuse("-func is missing")
	case o.limit < 1 || o.limit > maxFunctions:
		return o, f.Refuse("-max %d is not between 1 and %d", o.limit, maxFunctions)
	case json && perfetto:
		return o, f.Refuse("-json and -perfetto exclude each other")
	case json:
		o.form = formJSON
	case perfetto:
		o.form = formPerfetto
	}
	for name := range strings.SplitSeq(functions, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return o, f.Refuse("-func %q has an empty name", functions)
		}
		o.functions = append(o.functions, name)
	}
	return o, nil
}
