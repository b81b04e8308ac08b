package hypervisor

import (
	"context"
	_ "embed"
	"os"
	"path"
	"path/filepath"

	"github.com/govmi/govmi/internal/lab/build"
)

// FlaskMark ends the version that a Xen with FLASK tells of itself.
const FlaskMark = "-flask"

//go:embed flask-dom-cow.patch
var flaskPatch string

// flask is Debian's Xen without this module's patches, with what Debian leaves out: the security policy, and the sharing of memory that
// forks need.
var flask = build.Recipe{
	Suite:   Suite,
	Source:  "xen",
	Version: version,
	Patches: []string{flaskPatch},
	Steps: steps(FlaskMark,
		"CONFIG_EXPERT=y", "CONFIG_UNSUPPORTED=y", "CONFIG_MEM_SHARING=y",
		"CONFIG_XSM=y", "CONFIG_XSM_FLASK=y", "CONFIG_XSM_FLASK_POLICY=n"), // the policy is a boot module
	Program:  "xen/xen.gz",
	Packages: []string{"build-essential", "flex", "bison", "python3"},
}

// Flask returns the path of xen.gz with FLASK, built if the cache has none, as [Patched] does.
func Flask(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	return flask.Get(ctx, cacheDir, progress)
}

// policyName is what Xen's makefile calls the policy: after a version, which is none here.
const policyName = "xenpolicy-"

// Policy returns the path of the policy for [Flask]: Xen's reference policy with the module govmi of a folder, by the recipe of its README.
func Policy(ctx context.Context, cacheDir, moduleDir string, progress func(string)) (string, error) {
	const source = "tools/flask/policy"
	r := build.Recipe{
		Suite:   Suite,
		Source:  "xen",
		Version: version,
		Files:   map[string]string{},
		Dir:     source,
		Steps: [][]string{
			{"sh", "-c", "echo 'govmi = on' >>modules/modules.conf"},
			{"make", "-f", "Makefile.common", "FLASK_BUILD_DIR=."},
		},
		Program:  policyName,
		Packages: []string{"m4", "checkpolicy"},
	}
	for _, name := range []string{"govmi.te", "govmi.if"} {
		b, err := os.ReadFile(filepath.Join(moduleDir, name))
		if err != nil {
			return "", err
		}
		r.Files[path.Join(source, "modules", name)] = string(b)
	}
	return r.Get(ctx, cacheDir, progress)
}
