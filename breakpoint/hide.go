package breakpoint

import (
	"sync"
	"sync/atomic"

	"github.com/govmi/govmi/xen"
)

// hidden are the frames that views show copies of the guest's in. They have to have
// frame numbers, which the guest may try: in the domain's own p2m, and so in all
// views, it may do nothing with them, and a step in the view without breakpoints
// finds a frame there that reads as no memory does. Of the numbers from first to
// end all are hidden, also those whose frame has gone.
type hidden struct {
	first xen.GFN
	end   atomic.Uint64

	sink xen.GFN // what is seen instead

	mu    sync.Mutex
	frame *frame // the sink's; nil when closed
}

// noMemory is what reads where nothing answers.
const noMemory = 0xff

// openHidden makes the sink.
func (s *Views) openHidden() (err error) {
	h := &s.hidden
	sink := s.next
	if err := s.dom.Populate(sink); err != nil {
		return err
	}
	s.next++
	s.own = append(s.own, sink) // Close removes it
	h.sink = sink
	if h.frame, err = mapFrame(s.frames, sink, true); err != nil {
		return err
	}
	h.blank()
	return s.hide(sink)
}

// hide keeps the guest from the frame at gfn, which is used by a view already.
// What is set for the domain is before what is set for the view, which it would
// undo.
func (s *Views) hide(gfn xen.GFN) error {
	if err := s.dom.SetOwnAccess(gfn, xen.AccessN); err != nil {
		return err
	}
	s.hidden.end.Store(uint64(gfn) + 1)
	if gfn != s.hidden.sink {
		if err := s.dom.ChangeGFN(s.clean, gfn, s.hidden.sink); err != nil {
			return err
		}
	}
	return s.dom.SetViewAccess(s.clean, gfn, xen.AccessRWX)
}

func (h *hidden) has(gfn xen.GFN) bool { return gfn >= h.first && uint64(gfn) < h.end.Load() }

// blank takes away what the guest has written to the sink.
func (h *hidden) blank() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frame == nil {
		return
	}
	for i, b := range h.frame.bytes {
		if b != noMemory {
			h.frame.bytes[i] = noMemory
		}
	}
}

func (h *hidden) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frame == nil {
		return nil
	}
	err := h.frame.close()
	h.frame = nil
	return err
}
