//go:build lab

package xen_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/xen"
)

func open(t *testing.T) *xen.Hypervisor {
	t.Helper()
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func guest(t *testing.T, h *xen.Hypervisor) *xen.Domain {
	t.Helper()
	d, err := h.DomainByName("guest")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLabOpen(t *testing.T) {
	h := open(t)
	v := h.Version()
	t.Log(v)
	if v.Major != 4 || v.Minor < 14 {
		t.Errorf("Version() = %v", v)
	}
	n := 0
	for info, err := range h.Domains() {
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", info)
		n++
	}
	if n < 2 {
		t.Errorf("%d domains, want at least dom0 and the guest", n)
	}
}

func TestLabDomain(t *testing.T) {
	h := open(t)
	d := guest(t, h)
	name, err := d.Name()
	if name != "guest" || err != nil {
		t.Errorf("Name() = %q, %v", name, err)
	}
	same, err := h.LookupDomain(d.ID().String())
	if err != nil || same.ID() != d.ID() {
		t.Errorf("LookupDomain(%v) = %v, %v", d.ID(), same, err)
	}
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != d.ID() || !info.HVM || !info.HAP || info.Dying || info.Paused || info.Pages == 0 || info.OnlineVCPUs < 1 {
		t.Errorf("Info() = %+v", info)
	}

	for _, tt := range []struct {
		name string
		err  error
	}{
		{"by number", func() error { _, err := h.Domain(4711); return err }()},
		{"by reserved number", func() error { _, err := h.Domain(0x7ff4); return err }()},
		{"by name", func() error { _, err := h.DomainByName("no such"); return err }()},
		{"lookup of a number", func() error { _, err := h.LookupDomain("4711"); return err }()},
		{"lookup of nothing", func() error { _, err := h.LookupDomain(""); return err }()},
	} {
		if !errors.Is(tt.err, xen.ErrNoDomain) {
			t.Errorf("%s: %v", tt.name, tt.err)
		} else {
			t.Log(tt.err)
		}
	}
	dom0, err := h.Domain(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dom0.OpenMonitor(nil); !errors.Is(err, xen.ErrNotSupported) {
		t.Errorf("OpenMonitor of dom0: %v", err)
	}
}

func TestLabRegisters(t *testing.T) {
	d := guest(t, open(t))
	r, err := d.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *r)
	const kernelHalf = 1 << 63
	if r.LSTAR&kernelHalf == 0 || r.CR3 == 0 || r.EFER&0x500 != 0x500 || r.CR0&0x80000001 != 0x80000001 || r.GDTRBase == 0 {
		t.Errorf("these are not the registers of a 64-bit Linux: %+v", *r)
	}
	if _, err := d.Registers(100); err == nil {
		t.Error("no error for vCPU 100")
	} else {
		t.Log(err)
	}
}

func TestLabMapFrames(t *testing.T) {
	d := guest(t, open(t))
	maxGFN, err := d.MaximumGPFN()
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("maximum GPFN %v", maxGFN)
	root := xen.GFN(r.CR3 >> xen.PageShift & (1<<40 - 1))
	f, err := d.MapFrames([]xen.GFN{root, maxGFN + 1000, 1, 1 << 36}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, ok := range []bool{true, false, true, false} {
		b, err := f.Frame(i)
		if (err == nil) != ok || ok && len(b) != xen.PageSize {
			t.Errorf("frame %d: %d bytes, %v", i, len(b), err)
		}
		t.Log(err)
	}
	b, _ := f.Frame(0)
	if b[511*8]&1 == 0 {
		t.Errorf("the last entry of the page-table root is %x, want the kernel's text mapping", b[511*8:])
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Frame(0); !errors.Is(err, xen.ErrClosed) {
		t.Errorf("Frame after Close: %v", err)
	}
}

func TestLabMonitorOpenClose(t *testing.T) {
	d := guest(t, open(t))
	for i := range 20 {
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if i == 0 {
			c, err := m.Capabilities()
			t.Logf("capabilities %#x", c.Raw)
			if err != nil || !c.CtrlReg() || !c.SoftwareBreakpoint() {
				t.Errorf("Capabilities() = %+v, %v", c, err)
			}
			if _, err := d.OpenMonitor(nil); !errors.Is(err, xen.ErrBusy) || !errors.Is(err, syscall.EBUSY) {
				t.Errorf("second monitor: %v", err)
			} else {
				t.Log(err)
			}
		}
		if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
			t.Error(err)
		}
		if err := m.EnableSoftwareBreakpoint(); err != nil {
			t.Error(err)
		}
		if i%2 == 1 {
			time.Sleep(20 * time.Millisecond) // let events come that only Close answers
		}
		if err := m.Close(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := m.Close(); err != nil {
			t.Error("second Close:", err)
		}
	}
	info, err := d.Info()
	if err != nil || info.Paused {
		t.Errorf("after all: %+v, %v", info, err)
	}
}

func TestLabCR3(t *testing.T) {
	d := guest(t, open(t))
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
		t.Fatal(err)
	}
	const want = 1000
	var n atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	roots := map[uint64]int{}
	start := time.Now()
	err = m.Serve(ctx, func(r *xen.Request) xen.Response {
		if r.Reason != xen.ReasonWriteCtrlReg || r.Ctrl.Reg != xen.CR3 || r.Ctrl.Old == r.Ctrl.New || r.Regs.CR3 != r.Ctrl.Old {
			t.Errorf("%+v", *r)
		}
		roots[r.Ctrl.New]++
		if n.Add(1) == want {
			cancel()
		}
		return xen.Response{}
	})
	if err != context.Canceled {
		t.Errorf("Serve: %v", err)
	}
	t.Logf("%d events in %v, %d roots", n.Load(), time.Since(start), len(roots))
	if n.Load() < want || len(roots) < 2 {
		t.Errorf("%d events, %d roots", n.Load(), len(roots))
	}
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }
