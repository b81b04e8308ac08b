//go:build lab

package linux_test

import (
	"errors"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// counting counts the calls of a mapper.
type counting struct {
	vmi.FrameMapper
	calls int
}

func (c *counting) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	c.calls++
	return c.FrameMapper.MapFrames(gfns, writable)
}

// TestLabProcCost counts what reading a guest costs, and tells how long it takes.
func TestLabProcCost(t *testing.T) {
	g := labtest.SharedGuest(t, labtest.Ordinary())
	d, _ := openDomain(t, g.DomID())
	src := &counting{FrameMapper: vmi.MapperFunc(d.MapFrames)}
	const piece = 2 << 20
	mem := vmi.NewMemory(src, &vmi.MemoryOptions{MaxFrames: 1 << 17})
	defer mem.Close()
	start := time.Now()
	k, err := linux.Open(mem, registers(t, d))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range k.Processes() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	t.Logf("kernel found and %d processes listed in %v with %d calls", n, time.Since(start), src.calls)

	// The kernel's text, of which nothing was read.
	text, err := k.Symbols().Lookup("_stext")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.AddressSpace().Translate(text); err != nil { // its tables
		t.Fatal(err)
	}
	buf := make([]byte, piece)
	read := func() (int, time.Duration) {
		t.Helper()
		before, start := src.calls, time.Now()
		if _, err := k.AddressSpace().Read(text, buf); err != nil {
			t.Fatal(err)
		}
		return src.calls - before, time.Since(start)
	}
	calls, cold := read()
	again, warm := read()
	if calls > 2 || again != 0 {
		t.Errorf("2 MiB of text: %d calls, then %d", calls, again)
	}
	copied := make([]byte, piece)
	start = time.Now()
	copy(copied, buf)
	t.Logf("2 MiB: %v with %d calls, then %v; a copy takes %v", cold, calls, warm, time.Since(start))

	// The whole guest.
	if err := mem.Invalidate(); err != nil {
		t.Fatal(err)
	}
	const guest = 190 << 20 // of 192 MiB; the last pages are Xen's
	whole := func() (calls, bytes int, took time.Duration) {
		before, start := src.calls, time.Now()
		for at := vmi.PhysAddr(piece); at < guest; at += piece { // the first MiB has holes
			n, err := mem.ReadAt(buf, at)
			if err != nil && !errors.Is(err, vmi.ErrNotMapped) {
				t.Fatal(err)
			}
			bytes += n
		}
		return src.calls - before, bytes, time.Since(start)
	}
	calls, size, took := whole()
	again, _, warm = whole()
	if pieces := guest/piece - 1; calls > pieces || size < 180<<20 {
		t.Errorf("%d bytes of the guest with %d calls, want %d", size, calls, pieces)
	}
	if again != 0 {
		t.Errorf("again: %d calls", again)
	}
	memcpy := copyMapped(t, d, buf, guest)
	rate := func(d time.Duration) float64 { return float64(size) / 1e6 / d.Seconds() }
	of := memcpy.Seconds() / warm.Seconds()
	t.Logf("the guest's %d MiB: %v with %d calls, then %v: %.0f MB/s, plain copies of the same frames run at %.0f MB/s, %.2f of it",
		size>>20, took, calls, warm, rate(warm), rate(memcpy), of)
}

// copyMapped copies the guest's memory below end out of mappings of its own, to
// buf, and returns how long that takes.
func copyMapped(t *testing.T, d *xen.Domain, buf []byte, end vmi.PhysAddr) (took time.Duration) {
	t.Helper()
	piece := vmi.PhysAddr(len(buf))
	var all []*xen.Frames
	defer func() {
		for _, f := range all {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	gfns := make([]xen.GFN, len(buf)/xen.PageSize)
	for at := piece; at < end; at += piece {
		for i := range gfns {
			gfns[i] = at.GFN() + xen.GFN(i)
		}
		f, err := d.MapFrames(gfns, false)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	for range 2 { // the first copy has the processor find them
		start := time.Now()
		for _, f := range all {
			for i := range f.Len() {
				if p, err := f.Frame(i); err == nil {
					copy(buf[i*xen.PageSize:], p)
				}
			}
		}
		took = time.Since(start)
	}
	return took
}
