package xentest_test

import (
	"testing"

	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// A program that pauses a domain and is killed before, and after, that.
func TestDying(t *testing.T) {
	x := xentest.New(nil)
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	g := x.AddDomain(&xentest.DomainConfig{ID: 1})
	pause := func(o *xen.Options) error {
		h, err := xen.Open(o)
		if err != nil {
			return err
		}
		d, err := h.Domain(1)
		if err != nil {
			return err
		}
		return d.Pause() // and no end
	}
	before := x.Calls()
	if err := pause(x.Options()); err != nil {
		t.Fatal(err)
	}
	last := x.Calls() - before
	x.KillProcesses()
	for _, after := range []bool{false, true} {
		pauses := g.Pauses()
		opts, dead := x.Dying(last, after)
		go func() {
			t.Errorf("the program ends: %v", pause(opts))
		}()
		<-dead
		x.KillProcesses()
		if n := g.Pauses() - pauses; after != (n == 1) {
			t.Errorf("killed at the last call, after it: %v: %d pauses", after, n)
		}
	}
}
