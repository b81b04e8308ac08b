package journal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/govmi/govmi/xen"
)

// place is a byte of the guest's memory.
type place struct {
	gfn    xen.GFN
	offset uint16
}

// state is what the records of a journal leave to be undone.
type state struct {
	domain  identity
	altp2m  bool
	views   map[xen.View]bool
	frames  map[xen.GFN]bool // true: the page is there; false: it may be
	patches map[place]string // the original instruction
	limit   limit
	closed  span // what the guest may do less with
}

// span is from the first frame to the last of those that count.
type span struct {
	some        bool
	first, last xen.GFN
}

func (s *span) add(first, last xen.GFN) {
	if s.some {
		first, last = min(first, s.first), max(last, s.last)
	}
	*s = span{true, first, last}
}

// limit is how many pages the domain may have. Of the values that it was set to,
// the last may not have been reached.
type limit struct {
	changed      bool
	before       uint64
	last, really uint64
}

func newState(d identity) *state {
	return &state{domain: d, views: map[xen.View]bool{}, frames: map[xen.GFN]bool{}, patches: map[place]string{}}
}

// empty reports that nothing is left to undo.
func (s *state) empty() bool {
	return !s.altp2m && len(s.views) == 0 && len(s.frames) == 0 && len(s.patches) == 0 && !s.limit.changed && !s.closed.some
}

// apply takes a record over.
func (s *state) apply(r *record) {
	switch at := (place{r.gfn, r.offset}); r.kind {
	case kindAltP2M:
		s.altp2m = true
	case kindAltP2MOff: // and no view survives it
		s.altp2m = false
		clear(s.views)
	case kindView:
		s.views[r.view] = true
	case kindViewGone:
		delete(s.views, r.view)
	case kindFrame, kindFrameThere:
		s.frames[r.gfn] = r.kind == kindFrameThere
	case kindFrameGone:
		delete(s.frames, r.gfn)
	case kindPatch:
		s.patches[at] = r.insn
	case kindPatchGone:
		delete(s.patches, at)
	case kindLimit:
		if !s.limit.changed {
			s.limit = limit{changed: true, before: r.before}
		}
		s.limit.really, s.limit.last = r.before, r.after
	case kindLimitBack:
		s.limit = limit{}
	case kindAccess:
		s.closed.add(r.gfn, r.last)
	}
}

// append adds to b the records that make this state of an empty one, in a fixed
// order, behind magic.
func (s *state) append(b []byte) []byte {
	b = append(b, magic...)
	add := func(r record) { b = r.append(b) }
	add(record{kind: kindDomain, domain: s.domain})
	if s.altp2m {
		add(record{kind: kindAltP2M})
	}
	for _, v := range slices.Sorted(maps.Keys(s.views)) {
		add(record{kind: kindView, view: v})
	}
	for _, g := range slices.Sorted(maps.Keys(s.frames)) {
		k := kindFrame
		if s.frames[g] {
			k = kindFrameThere
		}
		add(record{kind: k, gfn: g})
	}
	for _, p := range s.places() {
		add(record{kind: kindPatch, gfn: p.gfn, offset: p.offset, insn: s.patches[p]})
	}
	if l := s.limit; l.changed {
		if l.really != l.before {
			add(record{kind: kindLimit, before: l.before, after: l.really})
		}
		add(record{kind: kindLimit, before: l.really, after: l.last})
	}
	if c := s.closed; c.some {
		add(record{kind: kindAccess, gfn: c.first, last: c.last})
	}
	return b
}

// places returns the patched places in order.
func (s *state) places() []place {
	return slices.SortedFunc(maps.Keys(s.patches), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.gfn, b.gfn), cmp.Compare(a.offset, b.offset))
	})
}

func (s *state) String() string {
	left := fmt.Sprintf("%d patched bytes, %d pages, %d views", len(s.patches), len(s.frames), len(s.views))
	if s.closed.some {
		left += fmt.Sprintf(", frames %v to %v restricted", s.closed.first, s.closed.last)
	}
	return left
}

// parse reads a journal. torn says that it ends within a record. A file that ends
// before it says which domain it is about is about none, and s is nil.
func parse(b []byte) (s *state, torn bool, err error) {
	if len(b) < len(magic) {
		if string(b) != magic[:len(b)] {
			return nil, false, ErrCorrupt
		}
		return nil, len(b) > 0, nil
	}
	if string(b[:len(magic)]) != magic {
		return nil, false, ErrCorrupt
	}
	for b = b[len(magic):]; len(b) > 0; {
		r, n, err := next(b)
		switch {
		case err != nil:
			return nil, false, err
		case n == 0:
			return s, true, nil
		case (r.kind == kindDomain) != (s == nil):
			return nil, false, fmt.Errorf("%w: the domain is not named at the beginning, and only there", ErrCorrupt)
		case s == nil:
			s = newState(r.domain)
		default:
			s.apply(&r)
		}
		b = b[n:]
	}
	return s, false, nil
}
