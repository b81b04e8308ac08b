package lane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// writeISO makes a CD from which the BIOS starts GRUB, which starts Xen.
func writeISO(ctx context.Context, s *Spec, t *tools, iso string) error {
	root := filepath.Join(s.Dir, "iso")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for name, source := range map[string]string{"xen": s.Xen, "kernel": s.Kernel, "initrd": s.Initrd} {
		abs, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		if err := os.Symlink(abs, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	config := filepath.Join(s.Dir, "grub.cfg")
	if err := os.WriteFile(config, []byte(grubConfig(s)), 0o644); err != nil {
		return err
	}
	modules, err := t.tree.Path("/usr/lib/grub/i386-pc")
	if err != nil {
		return err
	}
	grub, err := t.tree.Command(ctx, "/usr/bin/grub-mkimage", "-O", "i386-pc-eltorito", "-d", modules, "-c", config, "-p", "/",
		"-o", filepath.Join(root, "grub.img"), "biosdisk", "iso9660", "multiboot2", "gzio")
	if err != nil {
		return err
	}
	xorriso, err := t.tree.Command(ctx, "/usr/bin/xorriso", "-as", "mkisofs", "-quiet", "-f", "-no-pad", "-o", iso, "-b", "grub.img", "-no-emul-boot",
		"-boot-load-size", "4", "-boot-info-table", root)
	if err != nil {
		return err
	}
	for _, cmd := range []*exec.Cmd{grub, xorriso} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("boot medium: %s: %w: %s", filepath.Base(cmd.Args[3]), err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// grubConfig loads the files as they are; only a compressed Xen must be expanded by GRUB.
func grubConfig(s *Spec) string {
	return strings.Join([]string{
		"set gfxpayload=text",
		"multiboot2 (cd)/xen " + strings.Join(s.xenArgs(), " "),
		"module2 --nounzip (cd)/kernel " + strings.Join(s.kernelArgs(), " "),
		"module2 --nounzip (cd)/initrd",
		"boot",
	}, "\n") + "\n"
}
