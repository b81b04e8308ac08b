package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/debian"
	"github.com/govmi/govmi/internal/lab/hypervisor"
	"github.com/govmi/govmi/internal/lab/lane"
	"github.com/govmi/govmi/internal/lab/wire"
)

// Values of [Boot.Xen], beside paths.
const (
	// Patched is the Xen with the patches of patches/xen.
	Patched = wire.XenPatched
	// Flask is a Xen with FLASK, which enforces the policy of the folder policy.
	Flask = wire.XenFlask
)

// ErrBuiltSuite reports a boot of a Xen that the lab builds with the tools of another version.
var ErrBuiltSuite = errors.New("lab: the Xen that is built is of another suite than its tools")

func (b *Boot) check() error {
	if (b.Xen == Patched || b.Xen == Flask) && b.Suite != hypervisor.Suite {
		return fmt.Errorf("%w: want %s, have %s", ErrBuiltSuite, hypervisor.Suite, b.Suite)
	}
	return nil
}

// xenKind is the value of [wire.XenVar].
func (b *Boot) xenKind() string {
	switch b.Xen {
	case "":
		return wire.XenDebian
	case Patched, Flask:
		return b.Xen
	}
	return wire.XenOther
}

// hypervisor has the lane boot Xen's image, and what goes with it; tools are the suite's packages.
func (b *Boot) hypervisor(ctx context.Context, cacheDir string, spec *lane.Spec, tools *debian.Tree, progress func(string)) (err error) {
	switch b.Xen {
	case "":
		spec.Xen, err = packagedXen(tools)
		return err
	case Patched, Flask:
	default:
		spec.Xen = b.Xen
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if b.Xen == Patched {
		spec.Xen, err = hypervisor.Patched(ctx, cacheDir, filepath.Join(root, "patches", "xen"), progress)
		return err
	}
	if spec.Xen, err = hypervisor.Flask(ctx, cacheDir, progress); err != nil {
		return err
	}
	policy, err := hypervisor.Policy(ctx, cacheDir, filepath.Join(root, "policy"), progress)
	spec.Modules = append(spec.Modules, policy)
	spec.XenArgs = append([]string{"flask=enforcing"}, spec.XenArgs...)
	return err
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
