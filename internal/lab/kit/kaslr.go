package kit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/image"
)

// A kernel that the toolstack starts directly stays at its linked address; it
// randomizes itself only when its own decompressor runs. A GRUB image for PVH
// carries kernel and initramfs in its memory disk and starts it that way.

// BuildKASLR writes to out a bootable image of kernel and initrd, files of this
// machine. The tree holds grub-common and grub-xen-bin with their libraries.
func BuildKASLR(ctx context.Context, tree image.Tree, kernel, initrd, out string) (err error) {
	dir, err := os.MkdirTemp("", "govmi-kaslr-")
	if err != nil {
		return fmt.Errorf("kit: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	memdisk := filepath.Join(dir, "memdisk.tar")
	if err := writeMemdisk(memdisk, map[string]string{"vmlinuz": kernel, "initrd": initrd}); err != nil {
		return fmt.Errorf("kit: memory disk: %w", err)
	}
	early := filepath.Join(dir, "early.cfg")
	config := fmt.Sprintf("linux (memdisk)/vmlinuz %s\ninitrd (memdisk)/initrd\nboot\n", guest.Placeholder())
	if err := os.WriteFile(early, []byte(config), 0o644); err != nil {
		return fmt.Errorf("kit: %w", err)
	}
	mkimage, err := tree.Find("/usr/bin/grub-mkimage")
	if err != nil {
		return err
	}
	list, err := tree.Find("/usr/lib/grub/i386-xen_pvh/moddep.lst")
	if err != nil {
		return err
	}
	// With the packages' own loader and C library, so that this machine's
	// release does not matter.
	loader, err := tree.Find("/lib64/ld-linux-x86-64.so.2")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, loader, "--library-path", libraryPath(tree), mkimage,
		"-O", "i386-xen_pvh", "-d", filepath.Dir(list), "-p", "(memdisk)/", "-m", memdisk, "-c", early, "-o", out,
		"memdisk", "tar", "linux", "normal", "echo", "test", "relocator")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kit: grub-mkimage: %w: %s", err, text)
	}
	return nil
}

func libraryPath(tree image.Tree) string {
	var dirs []string
	for _, root := range tree {
		for _, lib := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"} {
			dirs = append(dirs, filepath.Join(root, lib))
		}
	}
	return strings.Join(dirs, ":")
}

func writeMemdisk(name string, files map[string]string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tw := tar.NewWriter(f)
	for _, member := range []string{"vmlinuz", "initrd"} {
		data, err := os.ReadFile(files[member])
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: member, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}
