package session

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	for _, tt := range []struct {
		args string
		want error
		msg  string // in what is printed
	}{
		{"-domain g", nil, ""},
		{"-domain g -pid 4194304", nil, ""},
		{"-domain g -comm sh", nil, ""},
		{"", ErrUsage, "tool: -domain is missing; see -help\n"},
		{"-domain g more", ErrUsage, `unexpected argument "more"`},
		{"-frobnicate", ErrUsage, "not defined"},
		{"-help", flag.ErrHelp, "usage: tool\n"},
		{"-domain g -pid 1 -comm sh", ErrUsage, "exclude each other"},
		{"-domain g -pid 4194305", ErrUsage, "-pid 4194305 is no process id"},
		{"-domain g -comm=", ErrUsage, "-comm is empty"},
	} {
		var msg bytes.Buffer
		c := NewCommand("tool", "usage: tool\n", &msg)
		var domain, comm string
		var pid int
		c.DomainVar(&domain)
		c.IntVar(&pid, "pid", 0, "")
		c.StringVar(&comm, "comm", "", "")
		err := c.Parse(strings.Fields(tt.args))
		if err == nil {
			err = c.CheckProcess(pid, comm)
		}
		if !errors.Is(err, tt.want) || !strings.Contains(msg.String(), tt.msg) {
			t.Errorf("%q: %v, %q", tt.args, err, msg.String())
		}
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		msg    string
	}{
		{nil, 0, ""},
		{flag.ErrHelp, 0, ""},
		{ErrUsage, 2, ""},
		{errors.Join(fs.ErrExist, fs.ErrClosed), 1, "tool: file already exists; file already closed\n"},
	} {
		var msg bytes.Buffer
		if status := Status("tool", tt.err, &msg); status != tt.status || msg.String() != tt.msg {
			t.Errorf("%v: %d, %q", tt.err, status, msg.String())
		}
	}
}
