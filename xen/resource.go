package xen

import (
	"sync"

	"github.com/govmi/govmi/internal/abi"
)

// Resource is memory of Xen's that belongs to a domain, mapped read only. It
// changes while the domain runs.
type Resource struct {
	dom  *Domain
	mem  []byte
	once sync.Once
	err  error
}

// MapGrantTable maps frames of the domain's grant table, from the first on: with
// entries of version 1, 512 in each frame. Where the domain has fewer frames, Xen
// makes them, as far as its configuration allows. The caller closes the resource.
// It needs a kernel in dom0 that can map resources (Linux 4.18 or later).
func (d *Domain) MapGrantTable(frames int) (*Resource, error) {
	const op = "memory_op acquire_resource"
	if frames < 1 || frames > 1<<16 {
		return nil, fault(op, d.id, ErrNotFound, "a grant table has 1 frame or more")
	}
	mem, err := d.hyp.conn.MapResource(uint16(d.id), abi.ResourceGrantTable, abi.ResourceGrantTableShared, 0, frames)
	if err != nil {
		return nil, d.fail(op, err, "")
	}
	return &Resource{dom: d, mem: mem}, nil
}

// Bytes returns the memory, which must not be used after Close. Writing to it is
// fatal.
func (r *Resource) Bytes() []byte { return r.mem }

// Close unmaps the resource. It is idempotent.
func (r *Resource) Close() error {
	r.once.Do(func() {
		r.err = r.dom.fail("unmap a resource", r.dom.hyp.conn.Unmap(r.mem), "")
		r.mem = nil
	})
	return r.err
}
