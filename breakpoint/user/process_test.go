package user

import (
	"errors"
	"strings"
	"testing"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/xen"
)

// Patched bytes would be in the pages of all processes.
func TestNeedsViews(t *testing.T) {
	p, err := Open(breakpoint.New(nil, nil), nil, Fault{}, 1)
	if p != nil || !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), "patched byte") {
		t.Errorf("%v, %v", p, err)
	}
}
