// Package yardstick builds what the library's costs are measured against: a
// monitor of one breakpoint in plain C, on Xen's own library.
package yardstick

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/govmi/govmi/internal/lab/build"
	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/debian"
)

// Name is the program's, in dom0.
const Name = "stepover"

// Headers is the package that the program is compiled with; the libraries are
// those that Xen's tools in dom0 come with.
const Headers = "libxen-dev"

//go:embed testdata/stepover.c
var source []byte

// libraries are linked by their files: dom0's release tells which they are.
var libraries = []string{"libxenctrl", "libxenforeignmemory", "libxendevicemodel", "libxenevtchn"}

var flags = []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-s"}

// Build returns the program's path, compiling it if the cache has none of this
// source, these packages and this compiler. The tree holds [Headers] and dom0's
// libraries with what they need. progress, which may be nil, is told what is
// going on. A machine without a compiler gets an error that says what to install.
func Build(ctx context.Context, cacheDir string, tree *debian.Tree, progress func(string)) (string, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if err := build.EnsureInstalled(ctx, progress, []string{"gcc", "libc6-dev"}); err != nil {
		return "", fmt.Errorf("yardstick: %w", err)
	}
	version, err := exec.CommandContext(ctx, "gcc", "-dumpfullversion").Output()
	if err != nil {
		return "", fmt.Errorf("yardstick: gcc's version: %w", err)
	}
	path := filepath.Join(cacheDir, "build", "yardstick-"+key(tree.Key(), string(version)), Name)
	_, err = cache.Build(ctx, filepath.Dir(path), func(tmp string) error {
		progress("compiling the yardstick (once)")
		return compile(ctx, tree, tmp)
	})
	if err != nil {
		return "", fmt.Errorf("yardstick: %w", err)
	}
	return path, nil
}

// key identifies what the program is made from.
func key(tree, compiler string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%q\n%s", []string{tree, strings.TrimSpace(compiler)}, slices.Concat(flags, libraries), source)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func compile(ctx context.Context, tree *debian.Tree, dir string) error {
	headers, ok := tree.Package(Headers)
	if !ok {
		return fmt.Errorf("no package %s", Headers)
	}
	args := slices.Concat(flags, []string{
		"-x", "c", "-", "-x", "none", "-I", filepath.Join(headers.Dir, "usr/include"),
		"-o", filepath.Join(dir, Name), "-Wl,--allow-shlib-undefined",
	})
	for _, lib := range libraries {
		file, err := tree.Path("/usr/lib/x86_64-linux-gnu/" + lib + ".so")
		if err != nil {
			return err
		}
		args = append(args, file)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "gcc", args...)
	cmd.Stdin = bytes.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile it: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}
