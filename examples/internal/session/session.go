// Package session is what the examples begin with: a guest with a monitor
// attached, and its kernel found.
package session

import (
	"errors"
	"fmt"
	"strings"

	"github.com/govmi/govmi/breakpoint/journal"
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
	// JournalPath is the journal's file; empty is journal.DefaultPath.
	JournalPath string

	hyp     *xen.Hypervisor
	mem     *vmi.Memory
	journal *journal.Journal
	scopes  []*cr3filter.Scope
	closed  bool
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
		return s, s.recoverable(err)
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

// recoverable adds to the error of attaching what to do, if a monitor has died.
func (s *Session) recoverable(err error) error {
	if !errors.Is(err, xen.ErrBusy) {
		return err
	}
	state, serr := s.Dom.MonitorState()
	if serr != nil || state != xen.MonitorLeftBehind {
		return err
	}
	return fmt.Errorf("a monitor of domain %s died: run \"recover -domain %s\" first: %w", s.Name, s.Name, err)
}

// Journaled returns the domain for what changes the guest: breakpoints and views.
// It is written down, so that "recover" can undo it should the program be killed.
// The session closes the journal.
func (s *Session) Journaled() (*journal.Domain, error) {
	if s.journal == nil {
		j, err := journal.Open(s.Dom, &journal.Options{Path: s.JournalPath})
		if errors.Is(err, xen.ErrBusy) {
			return nil, fmt.Errorf("run \"recover -domain %s\" first: %w", s.Name, err)
		}
		if err != nil {
			return nil, err
		}
		s.journal = j
	}
	return s.journal.Domain(), nil
}

// Scope confines breakpoints to processes, and keeps a journal of what that does
// to the guest. The session closes the scope.
func (s *Session) Scope(p cr3filter.Process, o *cr3filter.ScopeOptions) (*cr3filter.Scope, error) {
	d, err := s.Journaled()
	if err != nil {
		return nil, err
	}
	c, err := cr3filter.OpenScope(cr3filter.Guest{
		Domain: d, Monitor: s.Mon, Frames: vmi.MapperFunc(s.Dom.MapFrames), Kernel: s.Kernel, Loop: s.Loop,
	}, p, o)
	if errors.Is(err, xen.ErrBusy) { // views, of a program that kept no journal
		err = fmt.Errorf("if no program uses it, \"recover -domain %s -views\" turns it off: %w", s.Name, err)
	}
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
	if s.journal != nil {
		errs = append(errs, s.journal.Close())
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
