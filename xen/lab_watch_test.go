//go:build lab

package xen_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// A domain is told of when the toolstack makes it, and when it destroys it.
func TestLabWatchDomains(t *testing.T) {
	h := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g *labtest.Guest
	var got []xen.DomainChange
	for e, err := range h.WatchDomains(ctx) {
		if err != nil {
			if err != context.Canceled {
				t.Error(err)
			}
			break
		}
		switch {
		case g == nil && e.Info.ID == 0: // the first look is over soon
			g = labtest.CreatePaused(t, guest.Spec{MemoryMiB: 128})
		case g != nil && e.Info.ID == g.DomID():
			got = append(got, e.Change)
			switch e.Change {
			case xen.DomainAppeared:
				g.Destroy(t.Context())
			case xen.DomainGone:
				cancel()
			}
		}
	}
	if diff := cmp.Diff([]xen.DomainChange{xen.DomainAppeared, xen.DomainGone}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
