package build

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotInstalled(t *testing.T) {
	out := "g++ install ok installed c++-compiler, libc++-dev\n" +
		"make deinstall ok config-files make-guile\n" +
		"pkgconf install ok installed pkg-config (= 1.8), pkgconf-bin\n"
	got := notInstalled(out, []string{"g++", "make", "pkg-config", "meson"})
	if d := cmp.Diff([]string{"make", "meson"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
