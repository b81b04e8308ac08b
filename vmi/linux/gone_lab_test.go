//go:build lab

package linux_test

import (
	"bytes"
	"errors"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// TestLabProcGone reads a guest whose memory goes, and which goes itself.
func TestLabProcGone(t *testing.T) {
	g := labtest.StartGuest(t, guest.Spec{KASLR: true})
	t.Run("balloon", func(t *testing.T) { testBalloon(t, g) })
	t.Run("destroyed", func(t *testing.T) { testDestroyed(t, g) })
}

// testBalloon reads from eight goroutines while the guest gives memory away and
// takes it back: what they read is right, or an error that says so.
func testBalloon(t *testing.T, g *labtest.Guest) {
	ctx := t.Context()
	d, mem := openDomain(t, g.DomID())
	k, err := linux.Open(mem, registers(t, d))
	if err != nil {
		t.Fatal(err)
	}
	// What does not change: the kernel's types, some MiB of read-only data.
	at, err := k.Symbols().Lookup("__start_BTF")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 1<<20)
	if _, err := k.AddressSpace().Read(at, want); err != nil {
		t.Fatal(err)
	}
	total := func() int64 {
		t.Helper()
		info, err := d.Info()
		if err != nil {
			t.Fatal(err)
		}
		return int64(info.Pages)
	}
	full := total()

	const readers, frames = 8, 190 << 8
	var stop atomic.Bool
	var right, listed, missing, broken atomic.Int64
	var wg sync.WaitGroup
	for w := range readers {
		wg.Go(func() {
			buf := make([]byte, 64<<10)
			for i := 0; !stop.Load(); i++ {
				off := (i*7919 + w*4097) % (len(want) - len(buf))
				if _, err := k.AddressSpace().Read(at+vmi.VirtAddr(off), buf); err != nil || !bytes.Equal(buf, want[off:][:len(buf)]) {
					t.Errorf("read-only data at %#x: %v, or wrong bytes", off, err)
					return
				}
				right.Add(1)
				gfn := xen.GFN(i*31*readers+w*977) % frames
				if _, err := mem.ReadAt(buf[:xen.PageSize], vmi.PhysAddr(gfn<<xen.PageShift)); errors.Is(err, vmi.ErrNotMapped) {
					missing.Add(1)
				} else if err != nil {
					t.Errorf("frame %v: %v", gfn, err)
				}
				if w == 0 {
					// The guest runs: a list may break, but must end.
					n := 0
					for _, err := range k.Processes() {
						if err != nil {
							broken.Add(1)
							break
						}
						n++
					}
					if n > 0 {
						listed.Add(1)
					}
				}
			}
		})
	}
	memSet := func(mib string, reached func(pages int64) bool) {
		t.Helper()
		if out, err := exec.CommandContext(ctx, "xl", "mem-set", g.Name(), mib+"m").CombinedOutput(); err != nil {
			t.Errorf("xl mem-set: %v: %s", err, out)
			return
		}
		for start := time.Now(); !reached(total()); time.Sleep(100 * time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Errorf("the guest has %d pages a minute after it was told to have %s MiB, %d before", total(), mib, full)
				return
			}
			if err := mem.Invalidate(); err != nil {
				t.Error(err)
			}
		}
	}
	memSet("140", func(pages int64) bool { return pages <= full-(32<<8) })
	small := total()
	if err := mem.Invalidate(); err != nil {
		t.Error(err)
	}
	atSmall := missing.Load()
	for start := time.Now(); missing.Load() == atSmall && time.Since(start) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
	}
	gone := missing.Load() - atSmall
	memSet("192", func(pages int64) bool { return pages >= full-(8<<8) })
	stop.Store(true)
	wg.Wait()
	t.Logf("%d pages, then %d, then %d; %d reads of the kernel's types, %d of frames that there are not (%d of them while the guest was small); %d lists of processes, %d broken",
		full, small, total(), right.Load(), missing.Load(), gone, listed.Load(), broken.Load())
	if gone == 0 || listed.Load() == 0 {
		t.Error("nothing was read of what the guest gave away, or no list")
	}
	if out := g.MustExec(ctx, "echo it runs on"); out != "it runs on\n" {
		t.Errorf("afterwards the guest says %q", out)
	}
}

// testDestroyed reads a guest that is destroyed meanwhile.
func testDestroyed(t *testing.T, g *labtest.Guest) {
	d, mem := openDomain(t, g.DomID())
	k, err := linux.Open(mem, registers(t, d))
	if err != nil {
		t.Fatal(err)
	}
	const readers = 4
	var once sync.Once
	reading := make(chan struct{})
	var gone [readers]error
	var wg sync.WaitGroup
	for w := range readers {
		wg.Go(func() {
			for start := time.Now(); time.Since(start) < 2*time.Minute; {
				var err error
				for _, err = range k.Processes() {
					if err != nil {
						break
					}
				}
				if err == nil {
					err = mem.Invalidate() // so that the next one maps
				}
				once.Do(func() { close(reading) })
				switch {
				case errors.Is(err, xen.ErrNoDomain):
					gone[w] = err
					return
				case err != nil && !errors.Is(err, vmi.ErrNotMapped) && !errors.Is(err, vmi.ErrNotPresent) && !errors.Is(err, linux.ErrCorrupt):
					t.Errorf("while the guest is destroyed: %v", err)
					return
				case err != nil:
					// Its memory goes before it does.
					if err := mem.Invalidate(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	<-reading
	g.Destroy(t.Context())
	wg.Wait()
	for w, err := range gone {
		if !errors.Is(err, vmi.ErrNotMapped) {
			t.Errorf("reader %d ended with %v", w, err)
		}
	}
	t.Log(gone[0])
	if err := mem.Invalidate(); err != nil {
		t.Error(err)
	}
	if _, err := linux.Open(mem, []xen.Registers{{LSTAR: 0xffffffff81800000, CR3: 0x1000, EFER: 0x500}}); !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("Open afterwards: %v", err)
	}
	if _, err := d.AllRegisters(); !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("registers afterwards: %v", err)
	}
}
