package breakpoint

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Events is what [Open] needs of a [xen.Monitor].
type Events interface {
	EnableSoftwareBreakpoint() error
	EnableSingleStep() error
}

// Guest is a monitored guest. [Open] sets the handlers of Loop for software
// breakpoints and, with views, for accesses to memory and single steps.
type Guest struct {
	Domain  ViewDomain
	Monitor Events
	Frames  vmi.FrameMapper
	Loop    *vmi.Loop
}

// Options configure [Open]; nil means the zero value.
type Options struct {
	// Strategy forces one. [Engine.Strategy] says which it is.
	Strategy Strategy
	// Readable is as in [ViewsOptions].
	Readable bool
}

// Open returns an engine whose breakpoints all vCPUs run into, by the best strategy
// that the guest allows or the one that is asked for. Events are to be served from
// now on. With views the guest's altp2m is the engine's alone, and its Close ends
// it. The error matches [xen.ErrNotSupported] for a strategy that there is not, and
// [xen.ErrBusy] where another program has the guest's altp2m.
func Open(g Guest, o *Options) (*Engine, error) {
	if o == nil {
		o = &Options{}
	}
	if o.Strategy > PatchedByte {
		return nil, fmt.Errorf("%v: %w", o.Strategy, errors.ErrUnsupported)
	}
	if o.Strategy != PatchedByte {
		e, err := openInView(g, o)
		switch {
		case err == nil:
			return e, nil
		case o.Strategy != Automatic || !errors.Is(err, xen.ErrNotSupported):
			return nil, err
		}
	}
	e := New(g.Frames, g.Domain)
	if err := errors.Join(g.Loop.OnSoftwareBreakpoint(e.Handle), g.Monitor.EnableSoftwareBreakpoint()); err != nil {
		return nil, err
	}
	return e, nil
}

func openInView(g Guest, o *Options) (_ *Engine, err error) {
	views, err := OpenViews(g.Domain, g.Frames, &ViewsOptions{Strategy: o.Strategy, Readable: o.Readable})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, views.Close())
		}
	}()
	if err := g.Monitor.EnableSingleStep(); err != nil {
		return nil, err
	}
	e, err := views.NewEngine(g.Domain)
	if err != nil {
		return nil, err
	}
	e.owned = true
	return e, errors.Join(
		g.Loop.OnSoftwareBreakpoint(e.Handle),
		g.Loop.OnMemAccess(views.HandleMemAccess),
		g.Loop.OnSingleStep(views.HandleSingleStep),
		g.Monitor.EnableSoftwareBreakpoint(),
		views.Switch(e.View()))
}
