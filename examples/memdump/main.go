// Memdump writes the memory of a guest, or of a process in it, to a file. Of a whole
// guest it does not matter what runs in it.
//
//	memdump -domain guest -o guest.raw
//	memdump -domain guest -pid 214 -start 0x7ffe00000000 -end 0x7ffe00021000 -o stack
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

func main() { tool().Main() }

// options are what is written, and where to.
type options struct {
	out        string
	pid        int
	start, end uint64
}

func tool() view.Tool {
	var o options
	address := func(to *uint64) func(string) error {
		return func(s string) (err error) {
			*to, err = strconv.ParseUint(s, 0, 64)
			return err
		}
	}
	return view.Tool{
		Name: "memdump", About: "Writes a guest's memory to a file, with holes where it has none.",
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&o.out, "o", "", "the `file` to write")
			f.IntVar(&o.pid, "pid", 0, "the memory of the process with this `id`, from -start to -end")
			f.Func("start", "the first `address`", address(&o.start))
			f.Func("end", "the `address` behind the last", address(&o.end))
		},
		Run:      func(g *view.Guest) error { return dump(g, o) },
		AnyGuest: true,
	}
}

func dump(g *view.Guest, o options) (err error) {
	if o.out == "" {
		return errors.New("-o is missing")
	}
	if o.pid == 0 && o.end == 0 {
		o.end = uint64(g.LastGFN+1) << xen.PageShift
	}
	// What a file can hold, in whole pages.
	o.start, o.end = o.start&^(xen.PageSize-1), (o.end+xen.PageSize-1)&^(xen.PageSize-1)
	if o.start >= o.end || o.end-o.start > 1<<46 {
		return fmt.Errorf("from %#x to %#x is no range", o.start, o.end)
	}
	f, err := os.Create(o.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	write := physical
	if o.pid != 0 {
		write = virtual
	}
	n, err := write(g, o, f)
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(o.end - o.start)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(g.Out, "%d of %d bytes written\n", n, o.end-o.start)
	return err
}

// physical writes the frames that the guest has, and returns how many bytes.
func physical(g *view.Guest, o options, f *os.File) (n int64, err error) {
	const batch = 512 // mapped by one call
	for first := o.start >> xen.PageShift; first < o.end>>xen.PageShift; first += batch {
		var gfns []xen.GFN
		for g := first; g < min(first+batch, o.end>>xen.PageShift); g++ {
			gfns = append(gfns, xen.GFN(g))
		}
		frames, err := g.Source.MapFrames(gfns, false)
		if err != nil {
			return n, err
		}
		for i, gfn := range gfns {
			p, err := frames.Frame(i)
			if err != nil {
				continue // a hole
			}
			if _, err := f.WriteAt(p, int64(uint64(gfn)<<xen.PageShift-o.start)); err != nil {
				return n, errors.Join(err, frames.Close())
			}
			n += xen.PageSize
		}
		if err := frames.Close(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// virtual writes the pages that the process has in memory.
func virtual(g *view.Guest, o options, f *os.File) (n int64, err error) {
	if g.Kernel == nil {
		return 0, fmt.Errorf("no process can be found: %w", g.NoKernel)
	}
	t, err := g.Kernel.TaskByPID(int32(o.pid))
	if err != nil {
		return 0, err
	}
	s, err := t.AddressSpace()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, xen.PageSize)
	for m, err := range s.Mappings(vmi.VirtAddr(o.start), vmi.VirtAddr(o.end)) {
		if err != nil {
			return n, err
		}
		for va := max(m.Virt, vmi.VirtAddr(o.start)); va < min(m.Virt+vmi.VirtAddr(m.Size), vmi.VirtAddr(o.end)); va += xen.PageSize {
			if _, err := s.Read(va, buf); err != nil {
				return n, err
			}
			if _, err := f.WriteAt(buf, int64(uint64(va)-o.start)); err != nil {
				return n, err
			}
			n += xen.PageSize
		}
	}
	return n, nil
}
