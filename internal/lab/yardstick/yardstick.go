// Package yardstick builds what the library's costs are measured against: a
// monitor of one kind of event, and a program that maps memory, in plain C on
// Xen's own libraries; and what makes a domain that no toolstack has a command for.
package yardstick

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
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

// names are those of the programs, in dom0.
var names = []string{"stepover", "mapframes", "emptydomain"}

// Headers is the package that they are compiled with; the libraries are
// those that Xen's tools in dom0 come with.
const Headers = "libxen-dev"

//go:embed testdata
var sources embed.FS

// libraries are linked by their files: dom0's release tells which they are.
var libraries = []string{"libxenctrl", "libxenforeignmemory", "libxendevicemodel", "libxenevtchn"}

var flags = []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-s"}

// Build returns the programs' paths by their names, compiling them if the cache has
// none of these sources, packages and this compiler. The tree holds [Headers] and dom0's
// libraries with what they need. progress, which may be nil, is told what is
// going on. A machine without a compiler gets an error that says what to install.
func Build(ctx context.Context, cacheDir string, tree *debian.Tree, progress func(string)) (map[string]string, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if err := build.EnsureInstalled(ctx, progress, []string{"gcc", "libc6-dev"}); err != nil {
		return nil, fmt.Errorf("yardstick: %w", err)
	}
	version, err := exec.CommandContext(ctx, "gcc", "-dumpfullversion").Output()
	if err != nil {
		return nil, fmt.Errorf("yardstick: gcc's version: %w", err)
	}
	source := map[string][]byte{}
	for _, name := range names {
		if source[name], err = sources.ReadFile("testdata/" + name + ".c"); err != nil {
			return nil, fmt.Errorf("yardstick: %w", err)
		}
	}
	dir := filepath.Join(cacheDir, "build", "yardstick-"+key(tree.Key(), string(version), source))
	_, err = cache.Build(ctx, dir, func(tmp string) error {
		progress("compiling the yardstick (once)")
		if err := os.Mkdir(tmp, 0o755); err != nil {
			return err
		}
		for name, c := range source {
			if err := compile(ctx, tree, c, filepath.Join(tmp, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("yardstick: %w", err)
	}
	paths := map[string]string{}
	for _, name := range names {
		paths[name] = filepath.Join(dir, name)
	}
	return paths, nil
}

// key identifies what the programs are made from.
func key(tree, compiler string, source map[string][]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%q\n%q", []string{tree, strings.TrimSpace(compiler)}, slices.Concat(flags, libraries), source)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func compile(ctx context.Context, tree *debian.Tree, source []byte, to string) error {
	headers, ok := tree.Package(Headers)
	if !ok {
		return fmt.Errorf("no package %s", Headers)
	}
	args := slices.Concat(flags, []string{
		"-x", "c", "-", "-x", "none", "-I", filepath.Join(headers.Dir, "usr/include"),
		"-o", to, "-Wl,--allow-shlib-undefined",
	})
	for _, lib := range libraries {
		file, err := tree.Path("/usr/lib/x86_64-linux-gnu/" + lib + ".so")
		if err != nil {
			return err
		}
		args = append(args, file)
	}
	cmd := exec.CommandContext(ctx, "gcc", args...)
	cmd.Stdin = bytes.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile it: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}
