package hypervisor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSeries(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"0010-c.patch", "0000-cover-letter.patch", "0002-b.patch", "0001-a.patch", "README.md", "0003-d.patch.orig"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Series(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"0001-a.patch", "0002-b.patch", "0010-c.patch"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := Series(t.TempDir()); !errors.Is(err, ErrNoSeries) {
		t.Errorf("without patches: %v", err)
	}
}

// TestSeriesOfModule sees that the series is where the lab looks for it.
func TestSeriesOfModule(t *testing.T) {
	patches, err := Series("../../../patches/xen")
	if err != nil {
		t.Fatal(err)
	}
	if len(patches) < 8 {
		t.Errorf("%d patches", len(patches))
	}
}
