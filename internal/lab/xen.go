package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/debian"
	"github.com/govmi/govmi/internal/lab/hypervisor"
	"github.com/govmi/govmi/internal/lab/wire"
)

// Patched stands for the Xen with the patches of patches/xen, as [Boot.Xen].
const Patched = wire.XenPatched

// ErrPatchedSuite reports a boot of the patched Xen with the tools of another version.
var ErrPatchedSuite = errors.New("lab: the patched Xen is of another suite than its tools")

func (b *Boot) check() error {
	if b.Xen == Patched && b.Suite != hypervisor.Suite {
		return fmt.Errorf("%w: want %s, have %s", ErrPatchedSuite, hypervisor.Suite, b.Suite)
	}
	return nil
}

// xenKind is the value of [wire.XenVar].
func (b *Boot) xenKind() string {
	switch b.Xen {
	case "":
		return wire.XenDebian
	case Patched:
		return wire.XenPatched
	}
	return wire.XenOther
}

// hypervisor returns the path of Xen's image; tools are the suite's packages.
func (b *Boot) hypervisor(ctx context.Context, cacheDir string, tools *debian.Tree, progress func(string)) (string, error) {
	switch b.Xen {
	case "":
		return packagedXen(tools)
	case Patched:
		root, err := moduleRoot()
		if err != nil {
			return "", err
		}
		return hypervisor.Patched(ctx, cacheDir, filepath.Join(root, "patches", "xen"), progress)
	}
	return b.Xen, nil
}

// packagedXen finds Xen's image in its package.
func packagedXen(t *debian.Tree) (string, error) {
	found, err := t.Glob("/boot/xen-*-amd64.gz")
	if err != nil {
		return "", err
	}
	for _, f := range found {
		if !strings.HasSuffix(f, "-dbg-amd64.gz") {
			return f, nil
		}
	}
	return "", errors.New("lab: no hypervisor in Debian's package")
}
