package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/govmi/govmi/xen"
)

const int3 = 0xcc

// RecoverOptions configure [Recover]; nil means the zero value.
type RecoverOptions struct {
	// Path is the journal's file; empty is [DefaultPath].
	Path string
	// AltP2MOff turns altp2m off also if no journal says that the dead monitor
	// turned it on.
	AltP2MOff bool
	// KeepPaused is as in [xen.RecoverOptions].
	KeepPaused bool
}

// Place is a byte of the guest's memory.
type Place struct {
	GFN    xen.GFN
	Offset int
}

func (p Place) String() string { return fmt.Sprintf("%v+%#x", p.GFN, p.Offset) }

// Report says what a recovery found and did.
type Report struct {
	Path string // of the journal
	// Journal: there was one of this domain. Torn: it ended within a record.
	// Stale: there was one of an earlier domain of that number, and it was dropped.
	Journal, Torn, Stale bool
	// Alive: the monitor is, and nothing was done. Ring: there was a dead one's
	// ring. Paused: the domain was paused.
	Alive, Ring, Paused bool
	// Restored are the bytes that were put back. Changed are those where the
	// guest has something else now, or no memory any more: it was left alone.
	Restored, Changed []Place
	// Reopened: the guest may do everything again with frames that the monitor had
	// restricted.
	Reopened bool
	// AltP2M: it was turned off, and with it went so many views of the monitor's.
	AltP2M bool
	Views  int
	// Frames are the pages taken back. Doubtful are those that may be the guest's
	// own, since the domain ran after its monitor had died and before it had
	// noted that it had put the page there: they were left alone.
	Frames, Doubtful []xen.GFN
	// MaxPages is how many pages the domain may have again, if that was changed:
	// by the monitor, or with LimitKept by somebody else since.
	MaxPages  uint64
	LimitKept bool
}

// Nothing reports that there was nothing to recover.
func (r *Report) Nothing() bool { return !r.Journal && !r.Ring && !r.Paused && !r.AltP2M }

// Recover brings a domain back whose monitor died: with the domain paused, the
// bytes patched in the guest's memory are put back where they still are the
// monitor's, what the guest may do with its memory is everything, the vCPUs that
// wait for the monitor are released, events are off, views go, and then the pages
// and the memory limit that the domain was given.
// What the monitor did is taken from its journal; of one that kept none, what
// [xen.Domain.RecoverMonitor] can do is done.
//
// It may be called again, also after a recovery that was cut short: the domain
// stays paused then. The report is valid as far as it goes if there is an error,
// too. The error matches [xen.ErrBusy] if the monitor is alive, and [ErrCorrupt]
// for a damaged journal, without which it is not known what to put back: nothing
// is done.
func Recover(d *xen.Domain, o *RecoverOptions) (*Report, error) {
	if o == nil {
		o = &RecoverOptions{}
	}
	r := &Report{Path: o.Path}
	if r.Path == "" {
		r.Path = DefaultPath(d.ID())
	}
	owner, err := d.MonitorState()
	if err != nil {
		return r, err
	}
	if owner == xen.MonitorAttached {
		r.Alive = true
		return r, fmt.Errorf("recover domain %d: its monitor is alive: end that program, then there is nothing to recover: %w", d.ID(), xen.ErrBusy)
	}
	r.Ring = owner == xen.MonitorLeftBehind
	info, err := d.Info()
	if err != nil {
		return r, err
	}
	me, err := identify(d)
	if err != nil {
		return r, err
	}
	r.Paused = info.Paused
	var (
		s    *state
		file bool
	)
	return r, d.RecoverMonitor(&xen.RecoverOptions{
		KeepPaused: o.KeepPaused,
		Restore: func() error {
			f, err := find(r.Path, me)
			if err != nil {
				return err
			}
			r.Torn, r.Stale, file = f.torn, f.stale, f.file
			if s = f.state; s == nil {
				s = newState(me)
			}
			r.Journal = !s.empty()
			return r.restore(d, s)
		},
		Reclaim: func() error {
			err := r.reclaim(d, s, o)
			if err == nil && file { // with the domain still paused
				err = os.Remove(r.Path)
			}
			return err
		},
	})
}

// restore puts the patched bytes back, and allows what was not allowed.
func (r *Report) restore(d *xen.Domain, s *state) error {
	if s.closed.some && r.Ring {
		err := d.RestoreAccess(s.closed.first, s.closed.last)
		// It was written down, and then Xen has refused it as well.
		if err != nil && !errors.Is(err, xen.ErrNotFound) && !errors.Is(err, xen.ErrNotSupported) {
			return err
		}
		r.Reopened = err == nil
	}
	places := s.places()
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].gfn == places[0].gfn {
			n++
		}
		if err := r.restoreFrame(d, s, places[:n]); err != nil {
			return err
		}
		places = places[n:]
	}
	return nil
}

func (r *Report) restoreFrame(d *xen.Domain, s *state, places []place) (err error) {
	f, err := d.MapFrames([]xen.GFN{places[0].gfn}, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page, missing := f.Frame(0)
	if missing != nil {
		for _, p := range places {
			r.Changed = append(r.Changed, Place{p.gfn, int(p.offset)})
		}
		return nil
	}
	// As it would be without breakpoints: one may be within another's instruction.
	clean := bytes.Clone(page)
	for _, p := range places {
		if clean[p.offset] == int3 {
			clean[p.offset] = s.patches[p][0]
		}
	}
	for _, p := range places {
		insn := s.patches[p]
		at := Place{p.gfn, int(p.offset)}
		switch {
		case page[p.offset] == insn[0]: // it was not armed, or is restored already
		case page[p.offset] == int3 && string(clean[at.Offset:at.Offset+len(insn)]) == insn:
			page[p.offset] = insn[0]
			r.Restored = append(r.Restored, at)
		default:
			r.Changed = append(r.Changed, at)
		}
	}
	return nil
}

// reclaim takes back what the domain was given, once nobody can see it.
func (r *Report) reclaim(d *xen.Domain, s *state, o *RecoverOptions) error {
	if s.altp2m || o.AltP2MOff {
		on, err := d.AltP2M()
		if err == nil && on {
			err = d.SetAltP2M(false)
			r.AltP2M, r.Views = err == nil, len(s.views)
		}
		if err != nil && (s.altp2m || !errors.Is(err, xen.ErrNotSupported)) {
			return err
		}
	}
	for _, gfn := range slices.Sorted(maps.Keys(s.frames)) {
		surely := s.frames[gfn]
		taken, err := there(d, gfn)
		if err != nil {
			return err
		}
		if !taken {
			continue
		}
		if !surely && !r.Paused {
			r.Doubtful = append(r.Doubtful, gfn)
			continue
		}
		if err := d.RemoveFrame(gfn); err != nil {
			return err
		}
		r.Frames = append(r.Frames, gfn)
	}
	if s.limit.changed {
		info, err := d.Info()
		if err != nil {
			return err
		}
		if r.LimitKept, err = s.limit.restore(d, info); err != nil {
			return err
		}
		if r.MaxPages = s.limit.before; r.LimitKept {
			r.MaxPages = info.MaxPages
		}
	}
	return nil
}
