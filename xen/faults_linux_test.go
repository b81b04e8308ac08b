package xen_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// Each call of each operation fails once: the error says so, and nothing is left
// open or mapped.
func TestFaults(t *testing.T) {
	cfg := vmx()
	cfg.CR3Filter, cfg.Flask = true, true
	x, h := openFake(t, cfg)
	x.AddDomain(&xenfake.DomainConfig{ID: 1, Name: "guest", AltP2M: true})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string]func() error{
		"Build":   func() error { _, err := h.Build(); return err },
		"Host":    func() error { _, err := h.Host(); return err },
		"Policy":  func() error { _, err := h.Policy(); return err },
		"Console": func() error { _, err := h.Console(); return err },
		"Domains": func() error {
			for _, err := range h.Domains() {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"WatchDomains": func() error {
			for e, err := range h.WatchDomains(t.Context()) {
				if err != nil || e.Info.ID == 1 {
					return err
				}
			}
			return nil
		},
		"DomainByName":  func() error { _, err := h.DomainByName("guest"); return err },
		"Info":          func() error { _, err := d.Info(); return err },
		"AllRegisters":  func() error { _, err := d.AllRegisters(); return err },
		"Context":       func() error { _, err := d.Context(); return err },
		"ContextRecord": func() error { _, err := d.ContextRecord(xen.ContextCPU, 0); return err },
		"HVMParam":      func() error { _, err := d.HVMParam(xen.ParamIdentPT); return err },
		"Capabilities":  func() error { _, err := d.Capabilities(); return err },
		"CR3Filter":     func() error { _, err := d.CR3Filter(); return err },
		"AltP2M":        func() error { _, err := d.AltP2M(); return err },
		"MaximumGPFN":   func() error { _, err := d.MaximumGPFN(); return err },
		"MonitorState": func() error {
			s, err := d.MonitorState()
			if err == nil && s != xen.MonitorFree {
				t.Errorf("monitor %v", s)
			}
			return err
		},
		"MapGrantTable": func() error {
			r, err := d.MapGrantTable(1)
			if err != nil {
				return err
			}
			return r.Close()
		},
		"MapFrames": func() error {
			f, err := d.MapFrames([]xen.GFN{1, 2}, false)
			if err != nil {
				return err
			}
			return f.Close()
		},
	} {
		before := 0
		for range 2 { // the first may settle a version
			before = x.Calls()
			if err := op(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		calls := x.Calls() - before
		if calls == 0 {
			t.Errorf("%s makes no call", name)
		}
		for n := 1; n <= calls; n++ {
			x.FailCall(n, syscall.EIO)
			err := op()
			var e *xen.Error
			if !errors.Is(err, syscall.EIO) || !errors.As(err, &e) || e.Op == "" {
				t.Errorf("%s, call %d: %v", name, n, err)
			}
			x.FailCall(0, 0)
		}
	}
}
