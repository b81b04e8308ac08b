package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/hypervisor"
)

// writePatched does what write does, of headers with the patches of patches/xen.
func (h *headers) writePatched(ctx context.Context, name string) error {
	patches, err := hypervisor.Series("patches/xen")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "govmi-abi-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(filepath.Join(tmp, "xen"), os.DirFS(filepath.Join(h.xen, "xen"))); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "patch", "-d", filepath.Join(tmp, "xen"), "-p4", "-F0")
	cmd.Stdin = strings.NewReader(public(patches))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("patch the headers of Xen 4.%s: %w\n%s", h.minor, err, out)
	}
	p := *h
	p.xen, p.flags = tmp, []string{"-DPATCHED"}
	return p.write(ctx, name)
}

// public returns what patches change of Xen's public headers.
func public(patches []string) string {
	const start, headers = "diff --git ", "a/xen/include/public/"
	var b strings.Builder
	for _, p := range patches {
		for _, d := range strings.Split("\n"+p, "\n"+start)[1:] {
			if strings.HasPrefix(d, headers) {
				fmt.Fprintf(&b, "%s%s\n", start, d)
			}
		}
	}
	return b.String()
}
