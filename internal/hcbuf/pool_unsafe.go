// Package hcbuf hands out memory for hypercall arguments. Xen reads and
// writes that memory by virtual address and cannot fault pages in, so neither
// the Go heap nor a stack may be used; the memory comes from
// /dev/xen/hypercall, whose pages stay where they are.
package hcbuf

import (
	"errors"
	"fmt"
	"sync"
	"unsafe" // addresses of, and typed views into, memory outside the Go heap

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
)

const slabPages = 16

// Pool is a source of buffers. Its methods may be called from several
// goroutines.
type Pool struct {
	dev device.File

	mu    sync.Mutex
	free  [][]byte // single pages
	slabs [][]byte
	used  int
}

// NewPool returns a pool on the open device /dev/xen/hypercall, which it owns
// from then on.
func NewPool(dev device.File) *Pool { return &Pool{dev: dev} }

// Buffer is zeroed hypercall memory. One goroutine at a time may use it.
type Buffer struct {
	pool *Pool
	b    []byte // whole pages
	off  int    // bytes handed out by New and Bytes
}

// Get returns a zeroed buffer of at least size bytes. The caller frees it.
func (p *Pool) Get(size int) (*Buffer, error) {
	if size <= 0 || size > 1<<30 {
		return nil, fmt.Errorf("hypercall buffer of %d bytes", size)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dev == nil {
		return nil, errors.New("hypercall memory is closed")
	}
	if size > abi.PageSize {
		n := (size + abi.PageSize - 1) &^ (abi.PageSize - 1)
		b, err := p.dev.Map(n, true)
		if err != nil {
			return nil, fmt.Errorf("map %d bytes of hypercall memory: %w", n, err)
		}
		p.used++
		return &Buffer{pool: p, b: b}, nil
	}
	if len(p.free) == 0 {
		s, err := p.dev.Map(slabPages*abi.PageSize, true)
		if err != nil {
			return nil, fmt.Errorf("map hypercall memory: %w", err)
		}
		p.slabs = append(p.slabs, s)
		for i := range slabPages {
			p.free = append(p.free, s[i*abi.PageSize:(i+1)*abi.PageSize:(i+1)*abi.PageSize])
		}
	}
	b := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.used++
	clear(b)
	return &Buffer{pool: p, b: b}, nil
}

// Free gives the memory back. What New and Bytes returned must not be used
// any more. Free is idempotent.
func (b *Buffer) Free() error {
	if b.b == nil {
		return nil
	}
	p := b.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	mem := b.b
	b.b = nil
	p.used--
	if len(mem) > abi.PageSize {
		return p.dev.Unmap(mem)
	}
	p.free = append(p.free, mem)
	return nil
}

// Close unmaps everything and closes the device. It refuses while buffers are
// out, because Xen may be writing to them.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dev == nil {
		return nil
	}
	if p.used != 0 {
		return fmt.Errorf("%d hypercall buffers in use", p.used)
	}
	var errs []error
	for _, s := range p.slabs {
		errs = append(errs, p.dev.Unmap(s))
	}
	errs = append(errs, p.dev.Close())
	p.dev, p.slabs, p.free = nil, nil, nil
	return errors.Join(errs...)
}

// Bytes takes n bytes, 8-aligned, from the buffer.
func (b *Buffer) Bytes(n int) []byte {
	start := (b.off + 7) &^ 7
	s := b.b[start : start+n : start+n]
	b.off = start + n
	return s
}

// New takes room for a T from the buffer, which must be large enough. T holds
// no Go pointers.
func New[T any](b *Buffer) *T {
	var t T
	return Overlay[T](b.Bytes(int(unsafe.Sizeof(t))))
}

// Addr returns the address of something in hypercall memory, as Xen wants it.
func Addr[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// Overlay lays a T over the start of mem, which is large enough and aligned
// for it; anything else is a fault of the caller and panics. T holds no Go
// pointers.
func Overlay[T any](mem []byte) *T {
	var t T
	p := unsafe.Pointer(unsafe.SliceData(mem))
	// Kept so small that it is inlined, which the event path counts on.
	if uintptr(len(mem)) < unsafe.Sizeof(t) || uintptr(p)%unsafe.Alignof(t) != 0 {
		panic("hcbuf: too little memory, or misaligned")
	}
	return (*T)(p)
}
