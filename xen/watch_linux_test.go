package xen_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

func TestWatchDomains(t *testing.T) {
	x, h := openFake(t, nil)
	x.AddDomain(&xenfake.DomainConfig{ID: 3, Name: "three"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	var last error
	for e, err := range h.WatchDomains(ctx) {
		if err != nil {
			last = err
			continue
		}
		s := fmt.Sprintf("%v %v", e.Info.ID, e.Change)
		if e.Change == xen.DomainShutdown {
			s += fmt.Sprintf(" (%d)", e.Info.ShutdownReason)
		}
		got = append(got, s)
		switch s {
		case "3 appeared":
			x.AddDomain(&xenfake.DomainConfig{ID: 5})
		case "5 appeared":
			x.Domain(5).Shutdown(3)
		case "5 shut down (3)":
			x.Domain(5).Remove()
		case "5 gone":
			x.Domain(3).Kill()
		}
		switch len(got) {
		case 6, 7: // another one takes the number, the second time unseen
			x.Domain(3).Remove()
			x.AddDomain(&xenfake.DomainConfig{ID: 3})
		case 9:
			cancel()
		}
	}
	want := []string{
		"0 appeared", "3 appeared", "5 appeared", "5 shut down (3)", "5 gone", "3 gone", "3 appeared", "3 gone", "3 appeared",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if last != context.Canceled {
		t.Errorf("the sequence ended with %v", last)
	}
}

// A loop that is left leaves nothing behind; errors end the sequence.
func TestWatchDomainsEnds(t *testing.T) {
	x, h := openFake(t, nil)
	for range h.WatchDomains(t.Context()) {
		break
	}
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	n := 0
	for _, err := range h.WatchDomains(t.Context()) {
		if n++; n == 2 {
			x.FailCall(1, syscall.EIO)
			x.AddDomain(&xenfake.DomainConfig{ID: 2})
		}
		if err != nil && !errors.Is(err, syscall.EIO) || n > 3 {
			t.Fatalf("%d: %v", n, err)
		}
	}
	if n != 3 {
		t.Errorf("%d events", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for e, err := range h.WatchDomains(ended) {
		if err != context.Canceled {
			t.Errorf("%+v, %v", e, err)
		}
	}
}
