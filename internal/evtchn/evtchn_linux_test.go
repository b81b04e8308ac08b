package evtchn_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/evtchn"
	"github.com/govmi/govmi/internal/xenfake"
)

func TestBindErrors(t *testing.T) {
	x := xenfake.New(t, nil)
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	dev, err := x.Open(device.Evtchn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evtchn.Bind(dev, 1, 77); !errors.Is(err, syscall.EINVAL) { // no ring
		t.Error(err)
	}
	if l := x.Leaks(); l != nil {
		t.Error("Bind kept the device:", l)
	}
}

func TestWake(t *testing.T) {
	x := xenfake.New(t, nil)
	dev, err := x.Open(device.Evtchn)
	if err != nil {
		t.Fatal(err)
	}
	w, err := device.NewWaiter(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(w.Close(), dev.Close()); err != nil {
			t.Error(err)
		}
	}()
	if ready, woken, err := w.Wait(0); ready || woken || err != nil {
		t.Error(ready, woken, err)
	}
	w.Wake()
	w.Wake()
	for range 2 { // lasts until Reset
		if ready, woken, err := w.Wait(time.Hour); ready || !woken || err != nil {
			t.Error(ready, woken, err)
		}
	}
	w.Reset()
	if ready, woken, err := w.Wait(0); ready || woken || err != nil {
		t.Error(ready, woken, err)
	}
}
