package main

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// session is a guest with a monitor attached.
type session struct {
	hyp    *xen.Hypervisor
	dom    *xen.Domain
	name   string
	mon    *xen.Monitor
	mem    *vmi.Memory
	kernel *linux.Kernel
	engine *breakpoint.Engine
	loop   *vmi.Loop
	vcpus  int
	closed bool
}

// attach opens the domain. The session is to be closed even after an error.
func attach(x *xen.Options, domain string) (*session, error) {
	s := new(session)
	var err error
	if s.hyp, err = xen.Open(x); err != nil {
		return s, err
	}
	if s.dom, err = s.hyp.LookupDomain(domain); err != nil {
		return s, err
	}
	if s.name, err = s.dom.Name(); err != nil {
		s.name = domain // a name is a comfort
	}
	// First, because it tells whether the domain can be monitored at all.
	if s.mon, err = s.dom.OpenMonitor(nil); err != nil {
		return s, err
	}
	if err := s.openKernel(); err != nil {
		return s, fmt.Errorf("domain %s: %w", s.name, err)
	}
	s.engine = breakpoint.New(vmi.MapperFunc(s.dom.MapFrames), s.dom)
	s.loop = vmi.NewLoop(s.mon)
	if err := s.loop.OnSoftwareBreakpoint(s.engine.Handle); err != nil {
		return s, err
	}
	return s, s.mon.EnableSoftwareBreakpoint()
}

func (s *session) openKernel() error {
	regs, err := s.dom.AllRegisters()
	if err != nil {
		return err
	}
	s.vcpus = len(regs)
	s.mem = vmi.NewMemory(vmi.MapperFunc(s.dom.MapFrames), nil)
	s.kernel, err = linux.Open(s.mem, regs)
	return err
}

// paused runs f while the guest stands still, so that no vCPU is executing an
// instruction that f changes. A guest that cannot be paused, as one that is
// gone, does not keep f from running.
func (s *session) paused(f func() error) (err error) {
	if perr := s.dom.Pause(); perr == nil {
		defer func() { err = errors.Join(err, s.dom.Unpause()) }()
	} else if !errors.Is(perr, xen.ErrNoDomain) {
		defer func() { err = errors.Join(err, perr) }()
	}
	return f()
}

// Close puts the guest's instructions back, then detaches. It is idempotent.
func (s *session) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.paused(s.engine.Close))
	}
	if s.mon != nil {
		errs = append(errs, s.mon.Close())
	}
	if s.mem != nil {
		errs = append(errs, s.mem.Close())
	}
	if s.hyp != nil {
		errs = append(errs, s.hyp.Close())
	}
	return errors.Join(errs...)
}
