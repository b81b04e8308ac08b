package cr3filter

import (
	"sync/atomic"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// registered is a guest whose vCPUs all have one value in CR3.
type registered struct {
	Domain
	cr3 uint64
}

func (r registered) Registers(xen.VCPU) (*xen.Registers, error) {
	return &xen.Registers{CR3: r.cr3}, nil
}

// A scope that starts between a write's event and the write goes by the write.
func TestLoaded(t *testing.T) {
	s := &Scope{guest: Guest{Domain: registered{cr3: 0x1000}}}
	s.life = lifecycle{s: s, loading: make([]atomic.Uint64, 2)}
	s.ctrlReg(write(1, 0x1000, 0x2000))
	s.ctrlReg(write(7, 0x1000, 0x3000)) // no such vCPU
	for v, want := range []vmi.CR3{0x1000, 0x2000} {
		if got, err := s.life.loaded(xen.VCPU(v)); err != nil || got != want {
			t.Errorf("vCPU %d has %#x, %v; want %#x", v, uint64(got), err, uint64(want))
		}
	}
}
