package session

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// ErrUsage is a command line that was refused; the reason has been printed.
var ErrUsage = errors.New("usage")

// maxPID is the kernel's PID_MAX_LIMIT.
const maxPID = 4 << 20

// Command is a program's command line, to which the program adds its flags.
type Command struct {
	*flag.FlagSet
	stderr io.Writer
	domain *string // that has to be named
}

// NewCommand returns a command line without flags. usage is what is printed above
// them for -help.
func NewCommand(name, usage string, stderr io.Writer) *Command {
	c := &Command{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), stderr: stderr}
	c.SetOutput(stderr)
	c.Usage = func() {
		fmt.Fprint(stderr, usage)
		c.PrintDefaults()
	}
	return c
}

// DomainVar adds the flag -domain, without which the command line is refused.
func (c *Command) DomainVar(p *string) {
	c.StringVar(p, "domain", "", "the guest, by `name or id`")
	c.domain = p
}

// Parse parses args, which are flags only. The error is [flag.ErrHelp] or
// [ErrUsage].
func (c *Command) Parse(args []string) error {
	err := c.FlagSet.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return ErrUsage
	case c.NArg() > 0:
		return c.Refuse("unexpected argument %q", c.Arg(0))
	case c.domain != nil && *c.domain == "":
		return c.Refuse("-domain is missing")
	}
	return nil
}

// Refuse prints why the command line is refused, and returns [ErrUsage].
func (c *Command) Refuse(format string, args ...any) error {
	fmt.Fprintf(c.stderr, "%s: %s; see -help\n", c.Name(), fmt.Sprintf(format, args...))
	return ErrUsage
}

// Given reports whether the command line has the flag.
func (c *Command) Given(name string) (given bool) {
	c.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// CheckProcess refuses what the flags -pid and -comm cannot be; one of them may
// be given.
func (c *Command) CheckProcess(pid int, comm string) error {
	switch {
	case c.Given("pid") && c.Given("comm"):
		return c.Refuse("-pid and -comm exclude each other")
	case c.Given("pid") && !ValidPID(int64(pid)):
		return c.Refuse("-pid %d is no process id", pid)
	case c.Given("comm") && comm == "":
		return c.Refuse("-comm is empty")
	}
	return nil
}

// NeedProcess is CheckProcess where one of the flags has to be given.
func (c *Command) NeedProcess(pid int, comm string) error {
	if c.Given("pid") == c.Given("comm") {
		return c.Refuse("one of -pid and -comm is needed")
	}
	return c.CheckProcess(pid, comm)
}

// ValidPID reports whether a process can have the id.
func ValidPID(pid int64) bool { return pid > 0 && pid <= maxPID }

// Status is the exit status of a program that ended with err, which is printed
// if that was not done: 2 for a wrong command line, 1 for another error.
func Status(program string, err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, ErrUsage):
		return 2
	}
	fmt.Fprintf(stderr, "%s: %s\n", program, OneLine(err))
	return 1
}
