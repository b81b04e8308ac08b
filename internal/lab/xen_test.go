package lab

import (
	"errors"
	"testing"

	"github.com/govmi/govmi/internal/lab/lane"
	"github.com/govmi/govmi/internal/lab/wire"
)

func TestBootKindOfXen(t *testing.T) {
	for xen, want := range map[string]string{"": wire.XenDebian, Patched: wire.XenPatched, Flask: wire.XenFlask, "./patched": wire.XenOther, "/boot/xen.gz": wire.XenOther} {
		if got := (&Boot{Xen: xen}).xenKind(); got != want {
			t.Errorf("Xen %q: %s, want %s", xen, got, want)
		}
	}
}

func TestBuiltSuite(t *testing.T) {
	for _, xen := range []string{Patched, Flask} {
		b := &Boot{Xen: xen, Suite: "trixie"}
		if _, err := Start(t.Context(), Options{Lane: lane.SVM, Boot: b}); !errors.Is(err, ErrBuiltSuite) {
			t.Errorf("Start: %v", err)
		}
		if err := Prepare(t.Context(), lane.SVM, b, nil); !errors.Is(err, ErrBuiltSuite) {
			t.Errorf("Prepare: %v", err)
		}
		if d := (&Boot{Xen: xen}).withDefaults(); d.check() != nil {
			t.Errorf("the default suite: %v", d.check())
		}
	}
}
