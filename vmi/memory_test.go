package vmi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// fill returns n bytes that differ from frame to frame.
func fill(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i) ^ byte(i>>12)*31
	}
	return p
}

func TestMemoryReads(t *testing.T) {
	g := fakeguest.New()
	want := fill(5 * xen.PageSize)
	g.Write(0x10000, want)
	m := vmi.NewMemory(g, &vmi.MemoryOptions{Batch: 4})
	defer m.Close()

	for _, r := range []struct{ off, n int }{{0, 1}, {1, 8}, {4090, 12}, {100, 3 * 4096}, {0, 5 * 4096}, {8, 0}} {
		got := make([]byte, r.n)
		n, err := m.ReadAt(got, vmi.PhysAddr(0x10000+r.off))
		if err != nil || n != r.n {
			t.Errorf("ReadAt(%d bytes at %#x) = %d, %v", r.n, r.off, n, err)
		}
		if !bytes.Equal(got, want[r.off:r.off+r.n]) {
			t.Errorf("ReadAt(%d bytes at %#x) has wrong bytes", r.n, r.off)
		}
	}
	for _, off := range []int{0, 3, 4088, 4089, 4095} { // the last two cross frames
		got, err := m.Uint64(vmi.PhysAddr(0x10000 + off))
		if w := binary.LittleEndian.Uint64(want[off:]); err != nil || got != w {
			t.Errorf("Uint64(%#x) = %#x, %v, want %#x", off, got, err, w)
		}
	}
}

func TestMemoryReadStopsAtMissingFrame(t *testing.T) {
	g := fakeguest.New()
	g.Write(0x10000, fill(2*xen.PageSize))
	m := vmi.NewMemory(g, nil)
	defer m.Close()

	n, err := m.ReadAt(make([]byte, 3*xen.PageSize), 0x10100)
	if n != 2*xen.PageSize-0x100 {
		t.Errorf("read %d bytes", n)
	}
	var nm *vmi.NotMappedError
	if !errors.Is(err, vmi.ErrNotMapped) || !errors.Is(err, fakeguest.ErrNoFrame) || !errors.As(err, &nm) || nm.GFN != 0x12 {
		t.Errorf("error = %#v", err)
	}
	// What failed is tried again.
	g.Write(0x12000, fill(8))
	if _, err := m.ReadAt(make([]byte, 3*xen.PageSize), 0x10000); err != nil {
		t.Errorf("after the frame appeared: %v", err)
	}
}

func TestMemoryRejectsImpossibleAddress(t *testing.T) {
	g := fakeguest.New()
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	for _, a := range []vmi.PhysAddr{1 << 52, ^vmi.PhysAddr(7)} {
		if _, err := m.Uint64(a); !errors.Is(err, vmi.ErrNotMapped) {
			t.Errorf("Uint64(%v): %v", a, err)
		}
	}
	if s := g.Stats(); s.Calls != 0 {
		t.Errorf("asked the mapper %d times", s.Calls)
	}
}

func TestMemoryMapperError(t *testing.T) {
	g := fakeguest.New()
	g.Err = errors.New("domain is gone")
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	if _, err := m.Uint64(0); !errors.Is(err, vmi.ErrNotMapped) || !errors.Is(err, g.Err) {
		t.Errorf("error = %v", err)
	}
}

func TestMemoryWarmReadsNeitherMapNorAllocate(t *testing.T) {
	g := fakeguest.New()
	g.Write(0, fill(64*xen.PageSize))
	m := vmi.NewMemory(g, &vmi.MemoryOptions{Batch: 16})
	defer m.Close()
	buf := make([]byte, 64*xen.PageSize)
	if _, err := m.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	if got := g.Stats().Calls; got != 1 {
		t.Errorf("mapped 64 frames in %d calls, want 1", got)
	}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := m.ReadAt(buf, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Uint64(4093); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per warm read", allocs)
	}
	if got := g.Stats().Calls; got != 1 {
		t.Errorf("warm reads mapped: %d calls", got)
	}
}

func TestMemoryIsBoundedAndUnmapsAll(t *testing.T) {
	g := fakeguest.New()
	want := fill(256 * xen.PageSize)
	g.Write(0, want)
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 32, Batch: 4})
	got := make([]byte, len(want))
	for range 3 {
		for i := 0; i < len(got); i += xen.PageSize {
			if _, err := m.ReadAt(got[i:i+xen.PageSize], vmi.PhysAddr(i)); err != nil {
				t.Fatal(err)
			}
			if n := g.Stats().Mapped; n > 32 {
				t.Fatalf("%d frames mapped, the bound is 32", n)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatal("wrong bytes")
		}
	}
	for range 2 { // Close is idempotent
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.Stats().Mapped; n != 0 {
		t.Errorf("%d frames still mapped after Close", n)
	}
	if _, err := m.Uint64(0); !errors.Is(err, vmi.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := m.Page(0); !errors.Is(err, vmi.ErrClosed) {
		t.Errorf("Page after Close: %v", err)
	}
}

// TestMemoryKeepsWhatIsUsed reads one hot frame between cold ones.
func TestMemoryKeepsWhatIsUsed(t *testing.T) {
	g := fakeguest.New()
	g.Write(0, fill(1000*xen.PageSize))
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 16, Batch: 1})
	defer m.Close()
	for i := range 1000 {
		for _, a := range []vmi.PhysAddr{0, vmi.PhysAddr(i * xen.PageSize)} {
			if _, err := m.Uint64(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The clock may take the hot frame once, when all others are as fresh.
	if got := g.Stats().Calls; got > 1001 {
		t.Errorf("%d calls, want one per frame", got)
	}
}

func TestMemoryInvalidate(t *testing.T) {
	g := fakeguest.New()
	g.Private = true
	g.WriteUint64(0x1000, 1)
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	read := func(want uint64) {
		t.Helper()
		if got, err := m.Uint64(0x1000); err != nil || got != want {
			t.Errorf("Uint64 = %d, %v, want %d", got, err, want)
		}
	}
	read(1)
	g.WriteUint64(0x1000, 2)
	read(1) // a private mapping does not see the write
	if err := m.Invalidate(); err != nil {
		t.Fatal(err)
	}
	if n := g.Stats().Mapped; n != 0 {
		t.Errorf("%d frames mapped after Invalidate", n)
	}
	read(2)
}

func TestMemoryPageIsPinned(t *testing.T) {
	g := fakeguest.New()
	g.Private = true
	want := fill(64 * xen.PageSize)
	g.Write(0, want)
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 8, Batch: 2}) // 4 batches, 2 may be pinned
	var pages [][]byte
	for _, f := range []xen.GFN{4, 5, 6} { // two batches
		p, err := m.Page(f)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, p)
	}
	if _, err := m.Page(20); !errors.Is(err, vmi.ErrPinned) {
		t.Errorf("Page beyond the bound: %v", err)
	}
	if _, err := m.ReadAt(make([]byte, len(want)), 0); err != nil { // evicts all it can
		t.Fatal(err)
	}
	if err := m.Invalidate(); err != nil {
		t.Fatal(err)
	}
	for i, p := range pages {
		at := (4 + i) * xen.PageSize
		if !bytes.Equal(p, want[at:at+xen.PageSize]) {
			t.Errorf("page %d was unmapped under its user", i)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if n := g.Stats().Mapped; n != 0 {
		t.Errorf("%d frames still mapped after Close", n)
	}
}

// TestMemoryPinnedBatchGrows pins a frame whose neighbour appears later.
func TestMemoryPinnedBatchGrows(t *testing.T) {
	g := fakeguest.New()
	g.Private = true
	g.WriteUint64(0x4000, 4)
	m := vmi.NewMemory(g, &vmi.MemoryOptions{Batch: 2})
	p, err := m.Page(4)
	if err != nil {
		t.Fatal(err)
	}
	g.WriteUint64(0x5000, 5)
	if got, err := m.Uint64(0x5000); err != nil || got != 5 {
		t.Errorf("neighbour = %d, %v", got, err)
	}
	if got := binary.LittleEndian.Uint64(p); got != 4 {
		t.Errorf("pinned page = %#x", got)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if n := g.Stats().Mapped; n != 0 {
		t.Errorf("%d frames still mapped after Close", n)
	}
}

// TestMemoryConcurrent reads through a cache that is far too small, while it
// is invalidated: no reader may see an unmapped frame.
func TestMemoryConcurrent(t *testing.T) {
	g := fakeguest.New()
	g.Private = true
	const frames = 64
	want := fill(frames * xen.PageSize)
	g.Write(0, want)
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 8, Batch: 2})
	root := g.Alloc()
	for i := range frames {
		g.Map(root, 4, vmi.VirtAddr(0x400000+i*xen.PageSize), vmi.PhysAddr(i*xen.PageSize), 1, 0)
	}
	s := m.AddressSpace(vmi.CR3(root))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			buf := make([]byte, 3000)
			for i := range 400 {
				off := (i*7919 + w*4097) % (len(want) - len(buf))
				var err error
				if i%2 == 0 {
					_, err = m.ReadAt(buf, vmi.PhysAddr(off))
				} else {
					_, err = s.Read(vmi.VirtAddr(0x400000+off), buf)
				}
				if err != nil || !bytes.Equal(buf, want[off:off+len(buf)]) {
					t.Errorf("read at %#x: %v or wrong bytes", off, err)
					return
				}
			}
		})
	}
	for range 100 {
		if err := m.Invalidate(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if n := g.Stats().Mapped; n != 0 {
		t.Errorf("%d frames still mapped after Close", n)
	}
}

func TestMapperFunc(t *testing.T) {
	g := fakeguest.New()
	g.WriteUint64(0x3000, 42)
	m := vmi.NewMemory(vmi.MapperFunc(g.MapFrames), nil)
	defer m.Close()
	if got, err := m.Uint64(0x3000); err != nil || got != 42 {
		t.Errorf("Uint64 = %d, %v", got, err)
	}
	g.Err = io.ErrUnexpectedEOF
	if fr, err := vmi.MapperFunc(g.MapFrames).MapFrames(nil, false); fr != nil || !errors.Is(err, g.Err) {
		t.Errorf("MapFrames = %v, %v, want a nil interface and the error", fr, err)
	}
}

func TestImage(t *testing.T) {
	want := fill(3*xen.PageSize + 100)
	m := vmi.NewMemory(vmi.Image(bytes.NewReader(want)), nil)
	defer m.Close()
	got := make([]byte, 3*xen.PageSize)
	if _, err := m.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[:len(got)], got); d != "" {
		t.Error(d)
	}
	// The image ends within this frame.
	if _, err := m.Uint64(3 * xen.PageSize); !errors.Is(err, vmi.ErrNotMapped) || !errors.Is(err, vmi.ErrNotInFile) {
		t.Errorf("read of a cut frame: %v", err)
	}
	if _, err := vmi.Image(bytes.NewReader(nil)).MapFrames([]xen.GFN{0}, true); err == nil {
		t.Error("an image was mapped for writing")
	}
}
