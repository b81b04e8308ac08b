// Package build makes programs from source packages of Debian, and keeps them in the cache.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/debian"
)

// Recipe is how one program is made.
type Recipe struct {
	Suite  string
	Source string // name of the source package
	// Version of the source package; empty is the newest of the suite.
	Version string
	// OrigOnly makes do with the upstream tarball, for packages of which mirrors lack the other files.
	OrigOnly bool
	// Patches are the contents of patches, applied in this order with patch -p1, each with up to Fuzz lines of other context.
	Patches []string
	Fuzz    int
	// Files are added to the source: their contents, by their path in it.
	Files map[string]string
	// Dir is where the steps run, below the source's root; it is made if the source has no such folder.
	Dir string
	// Steps are commands, run one after the other. Their make uses all cores.
	Steps [][]string
	// Program is what is kept, a file below Dir.
	Program string
	// Packages must be installed for this, besides those that unpack and patch.
	Packages []string
}

// Get returns the path of the program, building it if the cache has none. What it is made from (version, patches, steps and architecture)
// tells it from others. progress, which may be nil, is told what is going on.
func (r *Recipe) Get(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	if progress == nil {
		progress = func(string) {}
	}
	suffixes := []string{".orig.tar.xz"}
	if !r.OrigOnly {
		suffixes = append(suffixes, ".dsc", ".debian.tar.xz")
	}
	sp, err := debian.Source(ctx, cacheDir, r.Suite, r.Source, r.Version, suffixes...)
	if err != nil {
		return "", err
	}
	name := r.Source + "-" + r.key(sp.Version)
	path := filepath.Join(cacheDir, "build", name, filepath.Base(r.Program))
	_, err = cache.Build(ctx, filepath.Dir(path), func(tmp string) error {
		if err := EnsureInstalled(ctx, progress, r.packages()); err != nil {
			return err
		}
		progress(fmt.Sprintf("building %s %s (once)", r.Source, sp.Version))
		return r.build(ctx, sp, tmp, filepath.Join(cacheDir, "build", name+".log"))
	})
	if err != nil {
		return "", fmt.Errorf("build %s: %w", r.Source, err)
	}
	return path, nil
}

// key identifies what the program is built from.
func (r *Recipe) key(version string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", []any{version, runtime.GOARCH, r.OrigOnly, r.Patches, r.Dir, r.Steps, r.Program})
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		fmt.Fprintf(h, "%q %q\n", name, r.Files[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (r *Recipe) packages() []string {
	tools := []string{"make", "patch", "xz-utils"}
	if !r.OrigOnly {
		tools = append(tools, "dpkg-dev")
	}
	return slices.Concat(tools, r.Packages)
}

// build leaves the program in tmp and nothing else.
func (r *Recipe) build(ctx context.Context, sp *debian.SourcePackage, tmp, logName string) error {
	src := filepath.Join(tmp, "src")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	defer log.Close()
	b := &builder{log: log}
	if err := r.unpack(ctx, sp, src, b); err != nil {
		return err
	}
	for _, p := range r.Patches {
		if err := b.run(ctx, src, p, "patch", "-p1", fmt.Sprintf("-F%d", r.Fuzz)); err != nil {
			return err
		}
	}
	for name, content := range r.Files {
		if err := os.WriteFile(filepath.Join(src, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	dir := filepath.Join(src, r.Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, step := range r.Steps {
		if err := b.run(ctx, dir, "", step...); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(dir, r.Program), filepath.Join(tmp, filepath.Base(r.Program))); err != nil {
		return err
	}
	return os.RemoveAll(src)
}

func (r *Recipe) unpack(ctx context.Context, sp *debian.SourcePackage, src string, b *builder) error {
	if r.OrigOnly {
		tarball, err := sp.File(".orig.tar.xz")
		if err != nil {
			return err
		}
		if err := os.Mkdir(src, 0o755); err != nil {
			return err
		}
		return b.run(ctx, src, "", "tar", "-xf", tarball, "--strip-components=1")
	}
	dsc, err := sp.File(".dsc")
	if err != nil {
		return err
	}
	// The files' sums have been checked against the archive's signed index.
	return b.run(ctx, filepath.Dir(src), "", "dpkg-source", "--no-check", "--no-copy", "-x", dsc, src)
}

// builder runs the steps of a build.
type builder struct{ log *os.File }

func (b *builder) run(ctx context.Context, dir, stdin string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = environ(os.Environ(), runtime.NumCPU())
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; the end of %s:\n%s", filepath.Base(argv[0]), err, b.log.Name(), tail(b.log.Name(), 15))
	}
	return nil
}

// environ has make use jobs cores, and know nothing of a make that this process was started by: its variables and options are not meant for
// the sources that are built here.
func environ(env []string, jobs int) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"}, name)
	})
	return append(env, "LC_ALL=C", fmt.Sprintf("MAKEFLAGS=-j%d", jobs))
}

// tail returns the last lines of a file.
func tail(name string, lines int) []byte {
	b, err := os.ReadFile(name)
	if err != nil {
		return []byte(err.Error())
	}
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
