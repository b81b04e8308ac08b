package xen

import "sync"

// monitors are the open monitors of a [Hypervisor], with the pages that go when
// they close.
//
// Taking a page from a domain has each vCPU's next resume tell the domain's
// device models, and end there: what an answer told it to do, emulate an
// instruction or load registers, is left for the resume after that, which may
// come at any other instruction (vcpu_ioreq_handle_completion and hvm_do_resume,
// in Xen from 4.15 on). Once the ring is gone, and with it the answers that were
// not taken, there is nothing to leave.
type monitors struct {
	mu   sync.Mutex
	open map[DomID]*[]GFN
}

func (s *monitors) opened(id DomID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[DomID]*[]GFN)
	}
	s.open[id] = new([]GFN)
}

// removeLater keeps a page for when the domain's monitor closes. It reports
// false if there is none.
func (s *monitors) removeLater(id DomID, gfn GFN) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	later := s.open[id]
	if later != nil {
		*later = append(*later, gfn)
	}
	return later != nil
}

// closed returns the pages to be removed now.
func (s *monitors) closed(id DomID) []GFN {
	s.mu.Lock()
	defer s.mu.Unlock()
	later := s.open[id]
	delete(s.open, id)
	if later == nil {
		return nil
	}
	return *later
}
