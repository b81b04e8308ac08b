package main

import (
	"io"

	"github.com/govmi/govmi/examples/internal/session"
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

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("bashspy", usage, stderr)
	f.DomainVar(&o.domain)
	f.IntVar(&o.pid, "pid", 0, "watch the shell with this process `id` in the guest, until it ends")
	f.StringVar(&o.comm, "comm", "", "watch the only shell that has this command `name` and a terminal")
	f.StringVar(&o.file, "o", "", "write to `file` instead of standard output")
	f.BoolVar(&o.json, "json", false, "print one JSON object per read and write, with the bytes")
	f.BoolVar(&o.noViews, "noviews", false, "patch the guest's own memory even if it may have altp2m views")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	return o, f.NeedProcess(o.pid, o.comm)
}
