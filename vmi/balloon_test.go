package vmi_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// TestReadsWhileTheGuestBalloons has eight readers of a guest that gives frames
// away and takes them back: what they read is right, or a clear error.
func TestReadsWhileTheGuestBalloons(t *testing.T) {
	g := fakeguest.New()
	g.Private = true
	const frames, readers, rounds = 128, 8, 200
	want := fill(frames * xen.PageSize)
	g.Write(0, want)
	m := vmi.NewMemory(g, &vmi.MemoryOptions{MaxFrames: 64, Batch: 4})
	var wg sync.WaitGroup
	var read, missing [readers]int
	for w := range readers {
		wg.Go(func() {
			buf := make([]byte, 20*xen.PageSize)
			for i := range rounds {
				off := (i*7919 + w*4097) % (len(want) - len(buf))
				n, err := m.ReadAt(buf, vmi.PhysAddr(off))
				if !bytes.Equal(buf[:n], want[off:off+n]) || n < len(buf) && err == nil {
					t.Errorf("read at %#x: %d bytes, %v", off, n, err)
					return
				}
				switch {
				case err == nil:
					read[w]++
				case errors.Is(err, vmi.ErrNotMapped) && errors.Is(err, fakeguest.ErrNoFrame):
					missing[w]++
				default:
					t.Errorf("read at %#x: %v", off, err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for first, more := xen.GFN(0), true; more; first = (first + 8) % frames {
		for f := first; f < first+8; f++ {
			g.Remove(f)
		}
		if err := m.Invalidate(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond) // let them notice
		g.Write(vmi.PhysAddr(first<<xen.PageShift), want[int(first)*xen.PageSize:int(first+8)*xen.PageSize])
		select {
		case <-done:
			more = false
		default:
		}
	}
	t.Logf("read %v, missing %v", read, missing)
	if err := m.Close(); err != nil || g.Stats().Mapped != 0 {
		t.Errorf("%v, %d frames mapped after Close", err, g.Stats().Mapped)
	}
}
