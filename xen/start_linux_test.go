package xen_test

import (
	"errors"
	"testing"

	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// A guest that is rebooted under its old number and UUID has another time.
func TestStartTime(t *testing.T) {
	x, h := openFake(t, nil)
	uuid := [16]byte{1, 2, 3}
	g := x.AddDomain(&xenfake.DomainConfig{ID: 1, UUID: uuid})
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.StartTime()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.StartTime(); err != nil || !again.Equal(first) {
		t.Errorf("%v, %v, and before %v", again, err, first)
	}
	g.Remove()
	if _, err := d.StartTime(); !errors.Is(err, xen.ErrNotFound) {
		t.Errorf("of a domain that is gone: %v", err)
	}
	x.AddDomain(&xenfake.DomainConfig{ID: 1, UUID: uuid})
	second, err := d.StartTime()
	info, ierr := d.Info()
	if err != nil || ierr != nil || info.UUID != uuid || !second.After(first) {
		t.Errorf("after the reboot: %v, %v; first %v", second, err, first)
	}
}
