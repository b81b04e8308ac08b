package evtchn_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/evtchn"
	"github.com/govmi/govmi/internal/privcmd"
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
	g := x.AddDomain(&xenfake.DomainConfig{ID: 1})
	var devs []device.File
	for _, k := range []device.Kind{device.Privcmd, device.Hypercall, device.Evtchn} {
		dev, err := x.Open(k)
		if err != nil {
			t.Fatal(err)
		}
		devs = append(devs, dev)
	}
	conn := privcmd.New(devs[0], devs[1])
	if _, err := conn.NegotiateDomctl(4, 17); err != nil {
		t.Fatal(err)
	}
	gfn, err := conn.HVMParam(1, abi.HVMParamMonitorRingPFN)
	if err != nil {
		t.Fatal(err)
	}
	g.SetPage(gfn, make([]byte, abi.PageSize))
	port, err := conn.VMEvent(1, abi.VMEventEnable)
	if err != nil {
		t.Fatal(err)
	}
	c, err := evtchn.Bind(devs[2], 1, port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, err := conn.VMEvent(1, abi.VMEventDisable)
		if err := errors.Join(err, c.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	}()
	wake := func() {
		t.Helper()
		if err := c.Wake(); err != nil {
			t.Fatal(err)
		}
	}
	send := func() {
		t.Helper()
		if err := g.Inject(&xenfake.Event{Reason: abi.ReasonMemAccess, Async: true}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want bool) {
		t.Helper()
		if ready, err := c.Wait(); ready != want || err != nil {
			t.Error(ready, err)
		}
	}

	wake() // before the wait
	wake()
	check(false)
	check(false) // the second came while the first was on its way
	send()
	check(true)
	wake()
	send()
	got := 0
	for got == 0 { // together or one after the other
		ready, err := c.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if ready {
			got++
		}
	}
	waited := make(chan bool)
	go func() {
		ready, err := c.Wait()
		waited <- !ready && err == nil
	}()
	wake()
	if !<-waited {
		t.Error("a wait was not woken")
	}
}
