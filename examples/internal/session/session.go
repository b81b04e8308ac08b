// Package session is what the examples begin with: a guest with a monitor
// attached, and its kernel found.
package session

import (
	"errors"
	"fmt"
	"strings"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Session is a guest with a monitor attached.
type Session struct {
	Name   string
	Dom    *xen.Domain
	Mon    *xen.Monitor
	Kernel *linux.Kernel
	Loop   *vmi.Loop
	VCPUs  int

	hyp    *xen.Hypervisor
	mem    *vmi.Memory
	scopes []*cr3filter.Scope
	closed bool
}

// Attach opens the domain with that name or number and finds its kernel. x may
// be nil. The session is to be closed even after an error.
func Attach(x *xen.Options, domain string) (*Session, error) {
	s := new(Session)
	var err error
	if s.hyp, err = xen.Open(x); err != nil {
		return s, err
	}
	if s.Dom, err = s.hyp.LookupDomain(domain); err != nil {
		return s, err
	}
	if s.Name, err = s.Dom.Name(); err != nil {
		s.Name = domain // a name is a comfort
	}
	// First, because it tells whether the domain can be monitored at all.
	if s.Mon, err = s.Dom.OpenMonitor(nil); err != nil {
		return s, err
	}
	if err := s.openKernel(); err != nil {
		return s, fmt.Errorf("domain %s: %w", s.Name, err)
	}
	s.Loop = vmi.NewLoop(s.Mon)
	return s, nil
}

func (s *Session) openKernel() error {
	regs, err := s.Dom.AllRegisters()
	if err != nil {
		return err
	}
	s.VCPUs = len(regs)
	s.mem = vmi.NewMemory(vmi.MapperFunc(s.Dom.MapFrames), nil)
	s.Kernel, err = linux.Open(s.mem, regs)
	return err
}

// Scope confines breakpoints to processes. The session closes the scope.
func (s *Session) Scope(p cr3filter.Process, o *cr3filter.ScopeOptions) (*cr3filter.Scope, error) {
	c, err := cr3filter.OpenScope(cr3filter.Guest{
		Domain: s.Dom, Monitor: s.Mon, Frames: vmi.MapperFunc(s.Dom.MapFrames), Kernel: s.Kernel, Loop: s.Loop,
	}, p, o)
	if err == nil {
		s.scopes = append(s.scopes, c)
	}
	return c, err
}

// Close puts the guest's instructions back, then detaches. It is idempotent.
func (s *Session) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, c := range s.scopes {
		errs = append(errs, c.Close())
	}
	if s.Mon != nil {
		errs = append(errs, s.Mon.Close())
	}
	if s.mem != nil {
		errs = append(errs, s.mem.Close())
	}
	if s.hyp != nil {
		errs = append(errs, s.hyp.Close())
	}
	return errors.Join(errs...)
}

// OneLine is err's text, which may be that of several errors, in one line.
func OneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Printable replaces what could confuse a terminal: a process chooses its name.
func Printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
