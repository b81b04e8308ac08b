package xen_test

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

func TestLookup(t *testing.T) {
	x, h := openFake(t, nil)
	x.AddDomain(&xenfake.DomainConfig{ID: 3, Name: "web"})
	x.AddDomain(&xenfake.DomainConfig{ID: 4, Name: "77"})
	x.AddDomain(&xenfake.DomainConfig{ID: 5}) // nameless
	dead := x.AddDomain(&xenfake.DomainConfig{ID: 6, Name: "dead"})
	dead.Kill()
	for _, tt := range []struct {
		arg  string
		want xen.DomID
		err  error
	}{
		{"3", 3, nil},
		{"web", 3, nil},
		{"77", 4, nil},
		{"Domain-0", 0, nil},
		{"dead", 0, xen.ErrNoDomain},
		{"6", 0, xen.ErrNoDomain},
		{"", 0, xen.ErrNoDomain},
		{"99", 0, xen.ErrNoDomain},
		{"65536", 0, xen.ErrNoDomain},
		{"32756", 0, xen.ErrNoDomain}, // DOMID_INVALID
		{"-1", 0, xen.ErrNoDomain},
	} {
		d, err := h.LookupDomain(tt.arg)
		if !errors.Is(err, tt.err) || err == nil && d.ID() != tt.want {
			t.Errorf("LookupDomain(%q) = %v, %v; want %v, %v", tt.arg, d, err, tt.want, tt.err)
		}
	}
	d, err := h.Domain(3)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := d.Name(); name != "web" || err != nil {
		t.Errorf("Name() = %q, %v", name, err)
	}
	if d, err = h.Domain(5); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Name(); !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("Name() of a nameless domain: %v", err)
	}
}

func TestDomainsManyAndStop(t *testing.T) {
	x, h := openFake(t, nil)
	want := []xen.DomID{0}
	for id := uint16(2); id < 90; id += 2 { // more than one batch
		x.AddDomain(&xenfake.DomainConfig{ID: id, Frames: 1})
		want = append(want, xen.DomID(id))
	}
	var got []xen.DomID
	for info, err := range h.Domains() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range h.Domains() {
		break
	}
	x.FailCall(1, syscall.EPERM)
	for _, err := range h.Domains() {
		if !errors.Is(err, xen.ErrPermission) {
			t.Errorf("error %v", err)
		}
	}
}

func TestInfoPause(t *testing.T) {
	x, h := openFake(t, nil)
	x.AddDomain(&xenfake.DomainConfig{ID: 1, VCPUs: 2, Frames: 4})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	got, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	want := xen.DomainInfo{
		ID: 1, HVM: true, HAP: true, Paused: true, OnlineVCPUs: 2, MaxVCPU: 1,
		Pages: 5, MaxPages: 68, CPUTime: time.Second, UUID: [16]byte{0: 1, 15: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := d.Unpause(); err != nil {
		t.Error(err)
	}
	if err := d.Unpause(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("second Unpause: %v", err)
	}
	x.Domain(1).Remove()
	for name, err := range map[string]error{
		"Pause":       d.Pause(),
		"Info":        func() error { _, err := d.Info(); return err }(),
		"Registers":   func() error { _, err := d.Registers(0); return err }(),
		"MaximumGPFN": func() error { _, err := d.MaximumGPFN(); return err }(),
		"MapFrames":   func() error { _, err := d.MapFrames([]xen.GFN{1}, false); return err }(),
		"OpenMonitor": func() error { _, err := d.OpenMonitor(nil); return err }(),
	} {
		if !errors.Is(err, xen.ErrNoDomain) {
			t.Errorf("%s of a gone domain: %v", name, err)
		}
	}
}

func TestRegisters(t *testing.T) {
	x, h := openFake(t, nil)
	fake := x.AddDomain(&xenfake.DomainConfig{ID: 1, VCPUs: 2})
	fake.SetCPU(1, &abi.HVMHWCPU{
		RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSP: 5, R15: 6, RIP: 7, RFLAGS: 8, CR0: 9, CR3: 10, DR7: 11,
		CSSel: 0x33, CSAR: 0xafb, CSLimit: 0xffffffff, SSAR: 0xcf3, GSBase: 12, ShadowGS: 13,
		LSTAR: 14, STAR: 15, EFER: 16, GDTRBase: 17, GDTRLimit: 18, SysenterCS: 19,
	})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Registers(1)
	if err != nil {
		t.Fatal(err)
	}
	want := &xen.Registers{
		RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSP: 5, R15: 6, RIP: 7, RFLAGS: 8, CR0: 9, CR3: 10, DR7: 11,
		CS: xen.Segment{Selector: 0x33, Access: 0xafb, Limit: 0xffffffff}, SS: xen.Segment{Access: 0xcf3},
		GS: xen.Segment{Base: 12}, ShadowGS: 13,
		LSTAR: 14, STAR: 15, EFER: 16, GDTRBase: 17, GDTRLimit: 18, SysenterCS: 19,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.CPL() != 3 {
		t.Errorf("CPL() = %d", got.CPL())
	}
	all, err := d.AllRegisters()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]xen.Registers{{}, *want}, all); diff != "" {
		t.Error(diff)
	}
	if _, err := d.Registers(2); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Registers(2): %v", err)
	}
}

// A result above 31 bits must survive the kernel's int.
func TestMaximumGPFN(t *testing.T) {
	x, h := openFake(t, nil)
	const high = 0x9_8765_4321
	x.AddDomain(&xenfake.DomainConfig{ID: 1}).SetPage(high, nil)
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.MaximumGPFN(); got != high || err != nil {
		t.Errorf("MaximumGPFN() = %v, %v", got, err)
	}
}

func TestInjectBreakpoint(t *testing.T) {
	x, h := openFake(t, nil)
	fake := x.AddDomain(&xenfake.DomainConfig{ID: 1, VCPUs: 2})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.InjectBreakpoint(1, 1); err != nil {
		t.Fatal(err)
	}
	want := []abi.InjectEvent{{VCPU: 1, Vector: 3, Type: 6, InsnLen: 1, ErrorCode: 0xffffffff}}
	if diff := cmp.Diff(want, fake.Injected(), cmp.AllowUnexported(abi.InjectEvent{})); diff != "" {
		t.Error(diff)
	}
	x.FailCall(1, syscall.EBUSY)
	if err := d.InjectBreakpoint(1, 1); !errors.Is(err, xen.ErrBusy) {
		t.Errorf("error %v", err)
	}
}

func TestMapFrames(t *testing.T) {
	x, h := openFake(t, nil)
	fake := x.AddDomain(&xenfake.DomainConfig{ID: 1, Frames: 2100})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	gfns := make([]xen.GFN, 2101) // the last one is missing, more than one batch
	for i := range gfns {
		gfns[i] = xen.GFN(i)
	}
	slices.Reverse(gfns)
	copy(fake.Page(2099), "hello")
	f, err := d.MapFrames(gfns, true)
	if err != nil {
		t.Fatal(err)
	}
	if f.Len() != len(gfns) {
		t.Errorf("Len() = %d", f.Len())
	}
	if _, err := f.Frame(0); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("frame without memory: %v", err)
	}
	for _, i := range []int{-1, len(gfns)} {
		if _, err := f.Frame(i); err == nil {
			t.Errorf("no error for frame %d", i)
		}
	}
	b, err := f.Frame(1)
	if err != nil {
		t.Fatal(err)
	}
	if string(b[:5]) != "hello" || len(b) != xen.PageSize || cap(b) != xen.PageSize {
		t.Errorf("frame 2099: %q, len %d, cap %d", b[:5], len(b), cap(b))
	}
	last, err := f.Frame(2100)
	if err != nil {
		t.Fatal(err)
	}
	last[7] = 42
	if fake.Page(0)[7] != 42 {
		t.Error("a write did not reach the guest")
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if _, err := f.Frame(1); !errors.Is(err, xen.ErrClosed) {
		t.Errorf("Frame after Close: %v", err)
	}
	if _, err := d.MapFrames(nil, false); err == nil {
		t.Error("no error for no frames")
	}

	// Each call of mapping fails once; nothing may leak.
	for k := 1; k <= 4; k++ {
		x.FailCall(k, syscall.ENOMEM)
		if _, err := d.MapFrames(gfns, false); !errors.Is(err, syscall.ENOMEM) {
			t.Errorf("call %d: %v", k, err)
		}
	}
	// ENOENT of the whole batch: some frames are paged out, look at each.
	x.FailCall(2, syscall.ENOENT)
	f, err = d.MapFrames([]xen.GFN{0}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
