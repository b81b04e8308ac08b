// Command abi writes testdata/abi anew: what the C compiler says of Xen's public headers, for each Xen that Debian has, and for the one that
// patches/xen makes. It runs in the module's root.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/build"
	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/debian"
	"github.com/govmi/govmi/internal/lab/hypervisor"
)

// dir holds the program, and gets what it prints.
const dir = "testdata/abi"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "abi: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	say := func(s string) { fmt.Fprintln(os.Stderr, "abi:", s) }
	if err := build.EnsureInstalled(ctx, say, []string{"gcc", "libc6-dev", "patch"}); err != nil {
		return err
	}
	cacheDir, err := cache.Dir()
	if err != nil {
		return err
	}
	for _, suite := range []string{"bullseye", "bookworm", "trixie"} {
		h, err := fetch(ctx, cacheDir, suite)
		if err != nil {
			return err
		}
		if err := h.write(ctx, "xen-4."+h.minor); err != nil {
			return err
		}
		if suite != hypervisor.Suite {
			continue
		}
		if err := h.writePatched(ctx, "xen-4."+h.minor+"-patched"); err != nil {
			return err
		}
	}
	return nil
}

// headers are those of one release of Xen and of the kernel that Debian has with it.
type headers struct {
	minor string
	// xen and linux are folders for the compiler's search path.
	xen, linux string
	flags      []string
}

func fetch(ctx context.Context, cacheDir, suite string) (*headers, error) {
	t, err := debian.Fetch(ctx, cacheDir, suite, "libxen-dev", "linux-libc-dev")
	if err != nil {
		return nil, err
	}
	xen, _ := t.Package("libxen-dev")
	linux, _ := t.Package("linux-libc-dev")
	rest, ok := strings.CutPrefix(xen.Version, "4.")
	minor, _, dot := strings.Cut(rest, ".")
	if !ok || !dot {
		return nil, fmt.Errorf("%s has libxen-dev %s, not of Xen 4", suite, xen.Version)
	}
	return &headers{minor: minor, xen: filepath.Join(xen.Dir, "usr/include"), linux: filepath.Join(linux.Dir, "usr/include")}, nil
}

// write compiles and runs the program and keeps what it prints.
func (h *headers) write(ctx context.Context, name string) error {
	tmp, err := os.MkdirTemp("", "govmi-abi-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	program := filepath.Join(tmp, "layout")
	args := append([]string{"-Wall", "-Werror", "-DXEN_MINOR=" + h.minor, "-I", filepath.Join(dir, "include"), "-I", h.xen,
		"-isystem", h.linux, "-isystem", filepath.Join(h.linux, "x86_64-linux-gnu"), "-o", program}, h.flags...)
	if out, err := exec.CommandContext(ctx, "gcc", append(args, filepath.Join(dir, "layout.c"))...).CombinedOutput(); err != nil {
		return fmt.Errorf("compile layout.c for Xen 4.%s: %w\n%s", h.minor, err, out)
	}
	out, err := exec.CommandContext(ctx, program).Output()
	if err != nil {
		return fmt.Errorf("layout for Xen 4.%s: %w", h.minor, err)
	}
	return os.WriteFile(filepath.Join(dir, name+".json"), out, 0o644)
}
