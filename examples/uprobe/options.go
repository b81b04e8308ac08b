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
	mapped    string // the file, by its path or the last part of it
	functions []string
	args      int
	ret       bool
	file      string
	json      bool
	shared    bool // patch pages that other processes have, too, if need be
}

const usage = `usage: uprobe -domain NAME|ID -pid N | -comm NAME -file NAME -func NAME,... [-args N] [-ret] [-o FILE] [-json]

Prints the calls of functions in a file that a process of a Xen guest has mapped,
until the process ends. Runs as root in dom0.

Without altp2m views, as on AMD, -shared is needed: breakpoints are patched into the
guest's page cache then. Other processes with the same file run into them, at the cost
of an event each time, and can read them; the guest may write them to its disk if it
changes the file. uprobe takes copies of them back when it ends; after kill -9 processes
that have written to such a page may die.

`

// maxArgs is the number of arguments in registers.
const maxArgs = 6

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("uprobe", usage, stderr)
	var functions string
	f.DomainVar(&o.domain)
	f.IntVar(&o.pid, "pid", 0, "the process with this `id` in the guest")
	f.StringVar(&o.comm, "comm", "", "the process with this command `name`, of which there is one")
	f.StringVar(&o.mapped, "file", "", "the program or library, by its `path` in the guest or the last part of it")
	f.StringVar(&functions, "func", "", "the `functions`, separated by commas")
	f.IntVar(&o.args, "args", 2, "print so many `arguments`, as numbers")
	f.BoolVar(&o.ret, "ret", false, "print calls when they return, with what")
	f.StringVar(&o.file, "o", "", "write to `file` instead of standard output")
	f.BoolVar(&o.shared, "shared", false, "without views, patch pages that other processes have as well (see above)")
	f.BoolVar(&o.json, "json", false, "print one JSON object per call")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if err := f.NeedProcess(o.pid, o.comm); err != nil {
		return o, err
	}
	switch {
	case o.mapped == "":
		return o, f.Refuse("-file is missing")
	case functions == "":
		return o, f.Refuse("-func is missing")
	case o.args < 0 || o.args > maxArgs:
		return o, f.Refuse("-args %d is not between 0 and %d", o.args, maxArgs)
	}
	for name := range strings.SplitSeq(functions, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return o, f.Refuse("-func %q has an empty name", functions)
		}
		o.functions = append(o.functions, name)
	}
	return o, nil
}
