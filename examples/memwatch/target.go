package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// span is a part of a frame that is watched, from one offset up to another.
type span struct{ from, to uint64 }

// target is the range that is watched.
type target struct {
	what  string
	spans map[xen.GFN]span
}

// find resolves what the options name. A virtual range is that of the frames that
// it has now.
func find(k *linux.Kernel, o options) (target, error) {
	t := target{spans: map[xen.GFN]span{}}
	if o.byFrame {
		t.what = fmt.Sprintf("%d bytes of frame %#x from %#x on", o.length, uint64(o.gfn), o.offset)
		t.spans[o.gfn] = span{o.offset, o.offset + o.length}
		return t, nil
	}
	va := vmi.VirtAddr(o.addr)
	if o.symbol != "" {
		var err error
		if va, err = symbol(k.Symbols(), o.symbol); err != nil {
			return t, err
		}
	}
	t.what = fmt.Sprintf("%d bytes at %v", o.length, va)
	for left := o.length; left > 0; {
		pa, err := k.AddressSpace().Translate(va)
		if err != nil {
			return t, fmt.Errorf("%v: %w", va, err)
		}
		from := uint64(pa.Offset())
		n := min(left, xen.PageSize-from)
		if _, twice := t.spans[pa.GFN()]; twice {
			return t, fmt.Errorf("%v: the kernel maps a frame twice within the range", va)
		}
		t.spans[pa.GFN()] = span{from, from + n}
		va += vmi.VirtAddr(n)
		left -= n
	}
	return t, nil
}

// symbol resolves NAME or NAME+OFFSET.
func symbol(s *linux.Symbols, name string) (vmi.VirtAddr, error) {
	base, plus, ok := strings.Cut(name, "+")
	va, err := s.Lookup(base)
	if err != nil || !ok {
		return va, err
	}
	off, err := strconv.ParseUint(plus, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("-symbol %s: %q is no offset", name, plus)
	}
	return va + vmi.VirtAddr(off), nil
}
