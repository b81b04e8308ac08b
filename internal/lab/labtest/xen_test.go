//go:build lab

package labtest

import (
	"os"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/hypervisor"
	"github.com/govmi/govmi/internal/lab/wire"
)

// TestLabXen sees that the hypervisor that runs is the one that was asked for, by its own word.
func TestLabXen(t *testing.T) {
	b, err := os.ReadFile("/sys/hypervisor/version/extra")
	if err != nil {
		t.Fatal(err)
	}
	extra := strings.TrimSpace(string(b))
	t.Logf("Xen's version ends in %q", extra)
	if os.Getenv(wire.XenVar) == wire.XenOther {
		t.Skip("the user chose the hypervisor")
	}
	if got, want := strings.HasSuffix(extra, hypervisor.FlaskMark), os.Getenv(wire.XenVar) == wire.XenFlask; got != want {
		t.Errorf("Xen %q has FLASK: %t, want %t", extra, got, want)
	}
	if got, want := strings.HasSuffix(extra, hypervisor.Mark), PatchedXen(t); got != want {
		t.Errorf("Xen %q is patched: %t, want %t", extra, got, want)
	}
}
