package labtest

import (
	"os"
	"testing"

	"github.com/govmi/govmi/internal/lab/wire"
)

// PatchedXen tells whether the lab has booted the Xen with this module's
// patches, so that a test can insist on what they add. It fails a test that the
// lab has not told.
func PatchedXen(tb testing.TB) bool {
	tb.Helper()
	switch v := os.Getenv(wire.XenVar); v {
	case wire.XenPatched:
		return true
	case wire.XenDebian, wire.XenFlask, wire.XenOther:
		return false
	default:
		tb.Fatalf("$%s is %q", wire.XenVar, v)
		return false
	}
}
