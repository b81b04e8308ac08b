package kfunc

import (
	"fmt"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Inserter places breakpoints that certain threads run into. [cr3filter.Scope] is
// one.
type Inserter interface {
	Insert(va vmi.VirtAddr, h cr3filter.Handler) (*cr3filter.Point, error)
}

// Watch is called at the entry of a function and when it ends; of the latter exit
// tells by what, and is nil at the entry. The stack pointer in r is the same at
// both ends of one call.
type Watch func(r *xen.Request, t linux.Task, exit *breakpoint.Exit)

// Insert places breakpoints at the function's entry and its exits, and returns
// how many.
func (f Function) Insert(s Inserter, w Watch) (n int, err error) {
	_, err = s.Insert(f.Addr, func(r *xen.Request, t linux.Task) xen.Response {
		w(r, t, nil)
		return xen.Response{}
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f.Name, err)
	}
	n = 1
	for i := range f.Exits {
		e := &f.Exits[i]
		_, err := s.Insert(e.Addr, func(r *xen.Request, t linux.Task) xen.Response {
			if e.Leaves(&r.Regs) {
				w(r, t, e)
			}
			return xen.Response{}
		})
		if err != nil {
			return n, fmt.Errorf("%s: its end: %w", f.Name, err)
		}
		n++
	}
	return n, nil
}
