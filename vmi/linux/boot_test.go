package linux

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
)

const (
	dClock    = 0x5000
	dLine     = 0x5100
	inOldCore = 8
)

func clockTypes() []btf.Type {
	u64 := &btf.Int{Name: "long unsigned int", Size: 8}
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	base := &btf.Struct{Size: 24, Members: []btf.Member{{Name: "shift", Type: u32}, {Name: "xtime_nsec", Type: u64, Offset: 64}, {Name: "base", Type: u64, Offset: 128}}}
	return append(testTypes(), &btf.Struct{Name: "timekeeper", Size: 64, Members: []btf.Member{
		{Name: "tkr_mono", Type: base}, {Name: "xtime_sec", Type: u64, Offset: 24 * 8}, {Name: "offs_boot", Type: u64, Offset: 32 * 8},
	}})
}

// newClockGuest is a guest that is up for 100.25 s, 30 of them asleep.
func newClockGuest(t *testing.T, types []btf.Type, in vmi.VirtAddr) *testGuest {
	t.Helper()
	g := newTestGuest(t, guestOptions{types: types, more: []Symbol{
		{kernelData + dClock, "tk_core", 'd'}, {kernelData + dLine, "saved_command_line", 'D'},
	}})
	tk := kernelData + dClock + in
	const shift = 22
	g.put(tk, shift)
	g.put(tk+8, uint64(250*time.Millisecond)<<shift)
	g.put(tk+16, uint64(70*time.Second))
	g.put(tk+24, uint64(1_700_000_000))
	g.put(tk+32, uint64(30*time.Second))
	g.put(kernelData+dClock, 2)
	g.put(kernelData+dLine, g.text("ro quiet root=/dev/sda1"))
	return g
}

func TestClock(t *testing.T) {
	named := clockTypes()
	named = append(named, &btf.Struct{Name: "tk_data", Size: 96, Members: []btf.Member{{Name: "timekeeper", Type: named[len(named)-1], Offset: 16 * 8}}})
	for _, tt := range []struct {
		types []btf.Type
		in    vmi.VirtAddr
	}{{clockTypes(), inOldCore}, {named, 16}} {
		g := newClockGuest(t, tt.types, tt.in)
		c, err := g.open(t).Clock()
		if want := time.Unix(1_700_000_000, int64(250*time.Millisecond)); err != nil || c.Uptime != 100250*time.Millisecond || !c.Wall.Equal(want) {
			t.Errorf("%v, %v", c, err)
		}
	}
	g := newClockGuest(t, clockTypes(), inOldCore)
	g.put(kernelData+dClock, 3)
	if c, err := g.open(t).Clock(); err == nil || !strings.Contains(err.Error(), "pause") {
		t.Errorf("while it changes: %v, %v", c, err)
	}
	g.put(kernelData+dClock, 4)
	g.put(kernelData+dClock+inOldCore+16, ^uint64(0)>>1)
	if c, err := g.open(t).Clock(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an uptime below 0: %v, %v", c, err)
	}
	bare := newTestGuest(t, guestOptions{}).open(t)
	if _, err := bare.Clock(); !errors.Is(err, ErrNoField) {
		t.Errorf("without types: %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	g := newClockGuest(t, clockTypes(), inOldCore)
	if line, err := g.open(t).CommandLine(); err != nil || line != "ro quiet root=/dev/sda1" {
		t.Errorf("%q, %v", line, err)
	}
	g.put(kernelData+dLine, vmi.VirtAddr(0xffffc00000000000))
	if line, err := g.open(t).CommandLine(); !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("astray: %q, %v", line, err)
	}
	g.put(kernelData+dLine, g.text(strings.Repeat("x", maxCommandLine+1)))
	if line, err := g.open(t).CommandLine(); err != nil || len(line) != maxCommandLine {
		t.Errorf("without end: %d bytes, %v", len(line), err)
	}
	if _, err := newTestGuest(t, guestOptions{}).open(t).CommandLine(); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("without the symbol: %v", err)
	}
}
