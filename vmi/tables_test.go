package vmi_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
)

// paeSpace has a root that does not begin its page.
func paeSpace(t *testing.T) (*fakeguest.Memory, vmi.AddressSpace) {
	t.Helper()
	const rw, user, large, nx = fakeguest.Writable, fakeguest.User, fakeguest.Large, uint64(fakeguest.NoExec)
	g := fakeguest.New()
	g.WriteUint64(0x10020, 0x20000|fakeguest.Present)                // from 0
	g.WriteUint64(0x10038, 0x30000|fakeguest.Present)                // from 3 GiB
	g.WriteUint64(0x20000, 0x40000|fakeguest.Present|rw|user)        // a table
	g.WriteUint64(0x40008, 0x50000|fakeguest.Present|user|nx)        // 0x1000
	g.WriteUint64(0x40010, 0x51000|fakeguest.Present|rw|user)        // 0x2000
	g.WriteUint64(0x30008, 0x1_0020_0000|fakeguest.Present|rw|large) // 0xc0200000, above 4 GiB
	g.Write(0x50000, []byte("pae"))
	g.Write(0x1_0020_1234, []byte{1, 2, 3, 4})
	m := vmi.NewMemory(g, nil)
	t.Cleanup(func() { m.Close() })
	return g, m.AddressSpacePAE(0x10020)
}

// oldSpace has two-level tables.
func oldSpace(t *testing.T) (*fakeguest.Memory, vmi.AddressSpace) {
	t.Helper()
	g := fakeguest.New()
	put := func(a vmi.PhysAddr, v uint32) { g.Write(a, binary.LittleEndian.AppendUint32(nil, v)) }
	const rw, user, large = fakeguest.Writable, fakeguest.User, fakeguest.Large
	put(0x10000, 0x20000|fakeguest.Present|rw|user)
	put(0x20004, 0x50000|fakeguest.Present|user)                  // 0x1000
	put(0x20008, 0x51000|fakeguest.Present|rw|user)               // 0x2000
	put(0x10000+4*769, 0x400000|1<<13|fakeguest.Present|rw|large) // 0xc0400000, at 4 GiB
	g.Write(0x50000, []byte("old"))
	g.Write(0x1_0040_1234, []byte{1, 2, 3, 4})
	m := vmi.NewMemory(g, nil)
	t.Cleanup(func() { m.Close() })
	return g, m.AddressSpace32(0x10000 | 0x18) // the flags are no part of the root
}

func TestPAE(t *testing.T) {
	_, s := paeSpace(t)
	testOldForm(t, s, "pae", 0xc0201234, []vmi.Mapping{
		{Virt: 0x1000, Phys: 0x50000, Size: 4096, User: true, NoExec: true},
		{Virt: 0x2000, Phys: 0x51000, Size: 4096, User: true, Writable: true},
		{Virt: 0xc0200000, Phys: 0x1_0020_0000, Size: 2 << 20, Writable: true},
	})
}

func TestTwoLevels(t *testing.T) {
	_, s := oldSpace(t)
	testOldForm(t, s, "old", 0xc0401234, []vmi.Mapping{
		{Virt: 0x1000, Phys: 0x50000, Size: 4096, User: true},
		{Virt: 0x2000, Phys: 0x51000, Size: 4096, User: true, Writable: true},
		{Virt: 0xc0400000, Phys: 0x1_0040_0000, Size: 4 << 20, Writable: true},
	})
}

func testOldForm(t *testing.T, s vmi.AddressSpace, text string, high vmi.VirtAddr, want []vmi.Mapping) {
	for range 2 { // cold and warm
		if got, err := s.CString(0x1000, 10); err != nil || got != text {
			t.Errorf("at 0x1000: %q, %v", got, err)
		}
		if v, err := s.Uint32(high); err != nil || v != 0x04030201 {
			t.Errorf("at %v: %#x, %v", high, v, err)
		}
	}
	for _, va := range []vmi.VirtAddr{0x3000, 0x40000000, 0x1_0000_1000, ^vmi.VirtAddr(0)} {
		if _, err := s.Uint8(va); !errors.Is(err, vmi.ErrNotPresent) {
			t.Errorf("at %v: %v", va, err)
		}
	}
	var all, some []vmi.Mapping
	for m, err := range s.Mappings(0, ^vmi.VirtAddr(0)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	for m, err := range s.Mappings(0x2000, high) {
		if err != nil {
			t.Fatal(err)
		}
		some = append(some, m)
	}
	if d := cmp.Diff([][]vmi.Mapping{want, want[1:]}, [][]vmi.Mapping{all, some}); d != "" {
		t.Error(d)
	}
}
