//go:build lab

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// TestLabHVM has a guest with a whole PC around it, by a device model: its memory
// has holes, in which devices are, and frames of firmware above. The lab boots
// with -device-model.
func TestLabHVM(t *testing.T) {
	g := labtest.StartGuest(t, guest.Spec{Name: "pc", HVM: true, KASLR: true, MemoryMiB: 256})
	g.MustExec(t.Context(), "test -e /sys/devices/pci0000:00") // it is no PVH guest
	labtest.Intact(t, g)

	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	holes(t, d)

	sleeper := g.Start(t.Context(), "exec sleep 1000")
	out, err := exec.Command(filepath.Join(guest.KitDir, "bin/ps"), "-domain", g.Name()).CombinedOutput()
	if want := fmt.Sprintf(`(?m)^ *0 +%d .* sleep 1000$`, sleeper.PID()); err != nil || !regexp.MustCompile(want).Match(out) {
		t.Errorf("ps: %v, no line %s:\n%s", err, want, out)
	}
	g.MustExec(t.Context(), fmt.Sprintf("kill %d", sleeper.PID()))
	sleeper.Wait(t.Context())

	n := labtest.Count(2000)
	c, pid := caller(t, g, "openat", n, "")
	tr := start(t, "-domain", g.Name(), "-pid", fmt.Sprint(pid))
	g.MustExec(t.Context(), "touch /tmp/go")
	if out, status := c.Wait(t.Context()); status != 0 {
		t.Errorf("the guest's process ended with %d: %s", status, out)
	}
	if got := count(tr.Lossless(), `(openat\(AT_FDCWD, "/etc/hostname", O_RDONLY|<\.\.\. openat resumed>)\) = \d+$`); got != n {
		t.Errorf("%d calls, want %d", got, n)
	}
}

// holes looks at memory that a PVH guest of this size does not have.
func holes(t *testing.T, d *xen.Domain) {
	top, err := d.MaximumGPFN()
	if err != nil {
		t.Fatal(err)
	}
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the highest frame is %v, the guest has %d pages", top, info.Pages)
	if top < 0xf0000 || uint64(top) < 2*info.Pages {
		t.Errorf("no frames of firmware near 4 GiB")
	}
	// The VGA card's window, the local APIC's page and one beyond everything.
	gfns := []xen.GFN{0x100, 0xa0, 0xfee00, top + 1}
	f, err := d.MapFrames(gfns, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, gfn := range gfns {
		_, err := f.Frame(i)
		t.Logf("frame %v: %v", gfn, err)
		if hole := i > 0; (err != nil) != hole {
			t.Errorf("frame %v: %v", gfn, err)
		}
		if err != nil && !strings.Contains(err.Error(), "no memory there") {
			t.Errorf("frame %v: %v", gfn, err)
		}
	}
}
