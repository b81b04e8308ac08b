package session

import (
	"errors"
	"io"
	"os"

	"github.com/govmi/govmi/xen"
)

// With attaches to the domain with that name or number and calls f, which writes
// to file, or to stdout if that is empty. A program that was killed and started
// again adds to its file. x may be nil.
func With(x *xen.Options, domain, file string, stdout io.Writer, f func(s *Session, out io.Writer) error) (err error) {
	out := stdout
	if file != "" {
		mode := os.O_TRUNC
		if _, again := Supervised(); again {
			mode = os.O_APPEND
		}
		c, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|mode, 0o666)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		out = c
	}
	s, err := Attach(x, domain)
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return err
	}
	return f(s, out)
}
