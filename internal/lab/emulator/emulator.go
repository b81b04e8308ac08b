// Package emulator builds the two machine emulators that the lab boots Xen in, and keeps them in the cache.
//
// Debian's packages of them do not serve: its Bochs is old and three times slower, and its QEMU does not intercept int3 under AMD SVM.
package emulator

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
	"runtime"
	"strings"

	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/debian"
)

// recipe is how one emulator is made from a source package.
type recipe struct {
	suite    string
	source   string
	suffixes []string // the files of the source package that are needed
	unpack   func(ctx context.Context, sp *debian.SourcePackage, dir string, b *builder) error
	patch    string // applied with patch -p1
	flags    []string
	make     []string // make's or ninja's command, without the number of jobs
	buildDir string   // where configure runs, below the source's root
	program  string   // what is kept, below buildDir
	packages []string // that must be installed to build it
}

//go:embed bochs-ram-image.patch
var bochsPatch string

var bochsRecipe = recipe{
	suite:    "trixie",
	source:   "bochs",
	suffixes: []string{".orig.tar.xz"}, // some mirrors lack the others
	unpack: func(ctx context.Context, sp *debian.SourcePackage, dir string, b *builder) error {
		tarball, err := sp.File(".orig.tar.xz")
		if err != nil {
			return err
		}
		return b.run(ctx, dir, "tar", "-xf", tarball, "--strip-components=1")
	},
	patch: bochsPatch,
	flags: []string{
		"--enable-cpu-level=6", "--enable-x86-64", "--enable-vmx=2", "--enable-smp", "--enable-pci", "--enable-evex", "--enable-avx",
		"--enable-repeat-speedups", "--enable-fast-function-calls", "--enable-handlers-chaining", "--enable-all-optimizations",
		"--disable-debugger", "--disable-docbook", "--disable-plugins", "--disable-readline", "--with-nogui",
	},
	make:     []string{"make", "bochs"},
	buildDir: ".",
	program:  "bochs",
	packages: []string{"g++", "make", "patch", "xz-utils"},
}

//go:embed qemu-svm-int3.patch
var qemuPatch string

var qemuRecipe = recipe{
	suite:    "bookworm",
	source:   "qemu",
	suffixes: []string{".dsc", ".orig.tar.xz", ".debian.tar.xz"},
	unpack: func(ctx context.Context, sp *debian.SourcePackage, dir string, b *builder) error {
		dsc, err := sp.File(".dsc")
		if err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil { // dpkg-source wants to make it
			return err
		}
		// The files' sums have been checked against the archive's signed index.
		return b.run(ctx, filepath.Dir(dir), "dpkg-source", "--no-check", "--no-copy", "-x", dsc, dir)
	},
	patch: qemuPatch,
	flags: []string{
		"--target-list=x86_64-softmmu", "--without-default-features", "--enable-system", "--enable-tcg", "--enable-fdt=system",
		"--disable-docs", "--disable-install-blobs",
	},
	make:     []string{"ninja", "qemu-system-x86_64"},
	buildDir: "govmi-build",
	program:  "qemu-system-x86_64",
	packages: []string{
		"gcc", "make", "patch", "xz-utils", "dpkg-dev", "pkg-config", "ninja-build", "meson", "python3-venv", "libglib2.0-dev", "libpixman-1-dev",
		"libfdt-dev", "zlib1g-dev",
	},
}

// Bochs returns the path of Bochs 3.0 with VMX, building it if the cache has none: about a minute and a half on two cores. progress, which
// may be nil, is told what is going on.
func Bochs(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	return bochsRecipe.get(ctx, cacheDir, progress)
}

// QEMU returns the path of qemu-system-x86_64, corrected so that a nested hypervisor sees its guest's int3 under SVM, building it if the
// cache has none: about three minutes on two cores. progress, which may be nil, is told what is going on.
func QEMU(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	return qemuRecipe.get(ctx, cacheDir, progress)
}

func (r *recipe) get(ctx context.Context, cacheDir string, progress func(string)) (string, error) {
	if progress == nil {
		progress = func(string) {}
	}
	sp, err := debian.Source(ctx, cacheDir, r.suite, r.source, "", r.suffixes...)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s", r.source, r.key(sp.Version))
	path := filepath.Join(cacheDir, "emulator", name, r.program)
	_, err = cache.Build(ctx, filepath.Dir(path), func(tmp string) error {
		if err := ensureInstalled(ctx, progress, r.packages); err != nil {
			return err
		}
		progress(fmt.Sprintf("building %s %s (once)", r.source, sp.Version))
		return r.build(ctx, sp, tmp, filepath.Join(cacheDir, "emulator", name+".log"))
	})
	if err != nil {
		return "", fmt.Errorf("build %s: %w", r.source, err)
	}
	return path, nil
}

// key identifies what the program is built from.
func (r *recipe) key(version string) string {
	h := sha256.New()
	fmt.Fprintln(h, version, runtime.GOARCH, r.flags, r.make, r.patch)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// build leaves the program in tmp and nothing else.
func (r *recipe) build(ctx context.Context, sp *debian.SourcePackage, tmp, logName string) error {
	src := filepath.Join(tmp, "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
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
	if r.patch != "" {
		b.stdin = r.patch
		if err := b.run(ctx, src, "patch", "-p1"); err != nil {
			return err
		}
		b.stdin = ""
	}
	dir := filepath.Join(src, r.buildDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := b.run(ctx, dir, filepath.Join(src, "configure"), r.flags...); err != nil {
		return err
	}
	jobs := fmt.Sprintf("-j%d", runtime.NumCPU())
	if err := b.run(ctx, dir, r.make[0], append([]string{jobs}, r.make[1:]...)...); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, r.program), filepath.Join(tmp, r.program)); err != nil {
		return err
	}
	return os.RemoveAll(src)
}

// builder runs the steps of a build.
type builder struct {
	log   *os.File
	stdin string
}

func (b *builder) run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(b.stdin)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; the end of %s:\n%s", filepath.Base(program), err, b.log.Name(), tail(b.log.Name(), 15))
	}
	return nil
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
