package privcmd_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/privcmd"
	"github.com/govmi/govmi/internal/xenfake"
)

func connect(t *testing.T, x *xenfake.Xen) *privcmd.Conn {
	t.Helper()
	pc, err := x.Open(device.Privcmd)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := x.Open(device.Hypercall)
	if err != nil {
		t.Fatal(err)
	}
	c := privcmd.New(pc, mem)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if l := x.Leaks(); l != nil {
			t.Error(l)
		}
	})
	return c
}

// On many releases these crash the host; the fake counts them as violations.
func TestVMEventOnNoDomain(t *testing.T) {
	x := xenfake.New(t, nil)
	c := connect(t, x)
	if _, err := c.NegotiateDomctl(4, 17); err != nil {
		t.Fatal(err)
	}
	before := c.Ioctls()
	for _, op := range []uint32{abi.VMEventEnable, abi.VMEventDisable, abi.VMEventResume, 99} {
		if _, err := c.VMEvent(abi.DomIDInvalid, op); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("operation %d: %v", op, err)
		}
	}
	if n := c.Ioctls() - before; n != 0 {
		t.Errorf("%d ioctls", n)
	}
	if v, err := c.VMEvent(abi.DomIDInvalid, abi.VMEventGetVersion); v != abi.VMEventV7 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
}

// The expected version is tried first: one hypercall, not the whole range.
func TestNegotiateDomctl(t *testing.T) {
	for _, tt := range []struct {
		minor  int
		spoken uint32
		calls  uint64
		want   uint32
		err    error
	}{
		{17, 0x15, 1, 0x15, nil},
		{18, 0x15, 5, 0x15, nil}, // 0x16, then 0x12 to 0x15
		{13, 0x12, 1, 0x12, nil},
		{23, 0x19, 9, 0x19, privcmd.ErrVersion},
		{12, 0x11, 14, 0, privcmd.ErrVersion},
	} {
		x := xenfake.New(t, &xenfake.Config{Major: 4, Minor: tt.minor, Domctl: tt.spoken})
		c := connect(t, x)
		v, err := c.NegotiateDomctl(4, tt.minor)
		if v != tt.want || err != tt.err || c.Ioctls() != tt.calls {
			t.Errorf("4.%d speaking %#x: %#x, %v after %d calls; want %#x, %v after %d",
				tt.minor, tt.spoken, v, err, c.Ioctls(), tt.want, tt.err, tt.calls)
		}
	}
}

func TestMapFramesNothing(t *testing.T) {
	x := xenfake.New(t, nil)
	c := connect(t, x)
	var errs [1]int32
	if _, err := privcmd.MapFrames(c, 1, []uint64{}, errs[:], false); err == nil {
		t.Error("no frames were mapped")
	}
	if _, err := privcmd.MapFrames(c, 1, []uint64{0, 1}, errs[:], false); err == nil {
		t.Error("no room for an error")
	}
	if _, err := privcmd.MapFrames(c, 1, []uint64{0}, errs[:], false); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("no domain: %v", err)
	}
}

// The list of watched values may need more room than it is given, and any room
// is hypercall memory.
func TestCR3FilterList(t *testing.T) {
	x := xenfake.New(t, &xenfake.Config{CR3Filter: true})
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	c := connect(t, x)
	if _, err := c.NegotiateDomctl(4, 17); err != nil {
		t.Fatal(err)
	}
	if err := c.CR3FilterSet(1, abi.CR3Set{Mode: abi.CR3FilterMatch}); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("a filter without a ring: %v", err)
	}
	var errs [1]int32
	mem, err := privcmd.MapFrames(c, 1, []uint64{0xfeff0}, errs[:], true)
	if err != nil || errs[0] != 0 {
		t.Fatal(err, errs)
	}
	clear(mem)
	if err := c.Unmap(mem); err != nil {
		t.Fatal(err)
	}
	if _, err := c.VMEvent(1, abi.VMEventEnable); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.CR3FilterSet(1, abi.CR3Set{Mode: abi.CR3FilterMatch}), c.CR3FilterAdd(1, 5), c.CR3FilterAdd(1, 7)); err != nil {
		t.Fatal(err)
	}
	for room, want := range map[int]error{0: syscall.ENOBUFS, 1: syscall.ENOBUFS, 2: nil, 2000: nil} {
		values, err := c.CR3FilterList(1, room)
		if !errors.Is(err, want) || want == nil && (len(values) != 2 || values[0] != 5 || values[1] != 7) {
			t.Errorf("room for %d: %v, %v", room, values, err)
		}
	}
	if err := c.CR3FilterClear(1); err != nil {
		t.Error(err)
	}
	if values, err := c.CR3FilterList(1, 0); len(values) != 0 || err != nil {
		t.Errorf("an empty filter: %v, %v", values, err)
	}
	if _, err := c.VMEvent(1, abi.VMEventDisable); err != nil {
		t.Error(err)
	}
}

// Whatever a hypervisor says that it is and speaks, its own version is found if
// it is a known one, and no other is taken for it.
func FuzzNegotiate(f *testing.F) {
	f.Add(uint16(4), uint16(17), uint32(0x15), uint32(0x15))
	f.Add(uint16(4), uint16(22), uint32(0x18), uint32(0x16))
	f.Add(uint16(4), uint16(30), uint32(0x19), uint32(0x17))
	f.Add(uint16(0xffff), uint16(0xffff), uint32(0), uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, major, minor uint16, domctl, sysctl uint32) {
		x := xenfake.New(t, &xenfake.Config{Major: int(major), Minor: int(minor), Domctl: domctl, Sysctl: sysctl})
		c := connect(t, x)
		if domctl == 0 || sysctl == 0 || major == 0 {
			return // the fake's own choice
		}
		v, err := c.NegotiateDomctl(int(major), int(minor))
		known := domctl >= abi.DomctlVersionMin && domctl <= abi.DomctlVersionKnown
		probed := domctl >= abi.DomctlVersionMin && domctl <= abi.DomctlVersionMax
		switch {
		case known && (v != domctl || err != nil), !known && !errors.Is(err, privcmd.ErrVersion):
			t.Errorf("%d.%d speaking %#x: %#x, %v", major, minor, domctl, v, err)
		case !known && probed && v != domctl, !probed && v != 0:
			t.Errorf("%d.%d speaking %#x: told %#x", major, minor, domctl, v)
		}
		s, err := c.NegotiateSysctl()
		if known := sysctl >= abi.SysctlVersionMin && sysctl <= abi.SysctlVersionMax; known != (err == nil) || known && s != sysctl {
			t.Errorf("speaking sysctl %#x: %#x, %v", sysctl, s, err)
		}
	})
}
