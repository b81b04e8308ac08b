// Package hypervisor builds Xen with govmi's own patches, for the lab to boot in place of Debian's.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/build"
)

// Suite is the one whose Xen is patched, and whose tools go with the result.
const Suite = "bookworm"

// Mark ends the version that a patched Xen tells of itself, see xl info's xen_extra and /sys/hypervisor/version/extra.
const Mark = "-govmi"

// ErrNoSeries reports a folder without the patches.
var ErrNoSeries = errors.New("no patches of Xen")

// version of Xen's source package, which Debian's mirrors have whole.
const version = "4.17.5+72-g01140da4e8-1"

// steps build Xen. Its configuration, to which config is added, has to be written by makes of their own.
func steps(mark string, config ...string) [][]string {
	target := func(name string) []string {
		return []string{"make", "-C", "xen", "XEN_TARGET_ARCH=x86_64", "XEN_VENDORVERSION=" + mark, name}
	}
	steps := [][]string{target("defconfig")}
	if len(config) > 0 {
		add := []string{"sh", "-c", `printf '%s\n' "$@" >>xen/.config`, "sh"}
		steps = append(steps, append(add, config...), target("olddefconfig"))
	}
	return append(steps, target("build"))
}

// recipe is that of patches/xen/README.md.
func recipe(patches []string) *build.Recipe {
	return &build.Recipe{
		Suite:    Suite,
		Source:   "xen",
		Version:  version,
		Patches:  patches,
		Steps:    steps(Mark),
		Program:  "xen/xen.gz",
		Packages: []string{"build-essential", "flex", "bison", "python3"},
	}
}

// Patched returns the path of xen.gz with the patches of a folder, building it if the cache has none: one to two minutes on two cores.
// progress, which may be nil, is told what is going on.
func Patched(ctx context.Context, cacheDir, patchDir string, progress func(string)) (string, error) {
	patches, err := Series(patchDir)
	if err != nil {
		return "", err
	}
	return recipe(patches).Get(ctx, cacheDir, progress)
}

// Series returns the patches of a folder in their order, without the cover letter, which has number 0.
func Series(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "[0-9][0-9][0-9][0-9]-*.patch")) // sorted
	if err != nil {
		return nil, err
	}
	var patches []string
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "0000-") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		patches = append(patches, string(b))
	}
	if len(patches) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrNoSeries, dir)
	}
	return patches, nil
}
