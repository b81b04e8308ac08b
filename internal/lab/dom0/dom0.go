// Package dom0 builds the initramfs that is the lab's whole dom0: Xen's tools
// and a Linux user space in RAM, made from unpacked Debian packages.
package dom0

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/govmi/govmi/internal/lab/image"
)

// Packages lists the Debian packages that the image is made from, for a Xen
// version ("4.17") and a kernel release ("6.1.0-42-amd64"), without the
// libraries that they depend on: those come by dependency.
func Packages(xen, kernel string) []string {
	return []string{"linux-image-" + kernel, "xen-utils-" + xen, "xenstore-utils", "busybox-static", "bash", "libgcc-s1"}
}

// Config says what goes into the image.
type Config struct {
	// Tree holds the packages, their library dependencies included.
	Tree image.Tree
	// Kernel is the kernel's release, as below /lib/modules.
	Kernel string
	// Agent is the agent's program, a static binary of this machine.
	Agent string
	// DeviceModel adds what HVM guests need: QEMU, of the package
	// qemu-system-xen, and their firmware.
	DeviceModel bool
	// Programs are more static binaries, by their path in the image.
	Programs map[string]string
}

//go:embed init.sh
var initScript []byte

// modules is what dom0 loads: Xen's devices, the disks of either lane, and what
// the kit's disk is mounted with.
var modules = []string{
	"xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs",
	"ata_piix", "crct10dif_generic", "sd_mod", "loop", "romfs",
}

// The tools without which there is no lab, and those that some versions lack.
var (
	tools    = []string{"xl", "xenstored", "xenconsoled", "xen-init-dom0", "xenconsole", "libxl-save-helper"}
	optional = []string{"xen-access", "xen-hvmctx", "xen-diag", "xentop", "lsevtchn", "xenctx"}
	clients  = []string{"xenstore-ls", "xenstore-list", "xenstore-read", "xenstore-write", "xenstore-rm", "xenstore-watch", "xenstore-exists"}
)

// Write writes the image as an uncompressed newc archive.
func Write(w io.Writer, cfg Config) error {
	b := image.NewBuilder(cfg.Tree)
	dir, err := toolsDir(cfg.Tree)
	if err != nil {
		return err
	}
	for _, name := range tools {
		if err := b.Program(path.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range optional {
		if err := b.Program(path.Join(dir, name)); err != nil && !errors.Is(err, image.ErrNotFound) {
			return err
		}
	}
	for _, name := range clients {
		if err := b.Program("/usr/bin/" + name); err != nil {
			return err
		}
	}
	if err := b.Program("/bin/bash"); err != nil {
		return err
	}
	// Opened at run time by pthread_cancel; xl aborts without it.
	if err := b.Library("libgcc_s.so.1"); err != nil {
		return err
	}
	if err := b.Copy("/bin/busybox", 0o755); err != nil {
		return err
	}
	b.Link("/bin/sh", "busybox")
	if err := b.HostFile("/sbin/agent", 0o755, cfg.Agent); err != nil {
		return err
	}
	for name, source := range cfg.Programs {
		if err := b.HostFile(name, 0o755, source); err != nil {
			return err
		}
	}
	if cfg.DeviceModel {
		if err := deviceModel(b, dir); err != nil {
			return err
		}
	}
	order, err := b.Modules(cfg.Kernel, modules...)
	if err != nil {
		return err
	}
	b.File("/etc/modules-order", 0o644, []byte(strings.Join(order, "\n")+"\n"))
	b.File("/etc/xen-tools-dir", 0o644, []byte(dir+"\n"))
	b.File("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/bash\n"))
	b.File("/etc/group", 0o644, []byte("root:x:0:\n"))
	b.File("/etc/hostname", 0o644, []byte("dom0\n"))
	b.File("/etc/profile", 0o644, []byte("PS1='dom0:\\w# '\n"))
	b.File("/etc/xen/xl.conf", 0o644, []byte("autoballoon=\"off\"\n"))
	b.File("/init", 0o755, initScript)
	b.Char("/dev/console", 0o600, 5, 1)
	b.Char("/dev/null", 0o666, 1, 3)
	b.Dir("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/lab", "/var/lib/xen", "/var/lib/xenstored",
		"/var/log/xen", "/usr/bin", "/usr/sbin", "/usr/lib/xen/boot", "/sbin", "/mnt")
	b.Link("/var/run", "/run")
	b.Link("/var/lock", "/run/lock")
	if err := b.Write(w); err != nil {
		return fmt.Errorf("dom0: %w", err)
	}
	return nil
}

// toolsDir finds the folder of Xen's versioned tools in the image; a Xen built
// from source has them in /usr/local.
func toolsDir(tree image.Tree) (string, error) {
	for _, pattern := range []string{"/usr/lib/xen-*/bin/xl", "/usr/lib/xen/bin/xl", "/usr/local/sbin/xl"} {
		names, err := tree.Glob(pattern)
		if err != nil {
			return "", err
		}
		switch len(names) {
		case 0:
			continue
		case 1:
			return path.Dir(names[0]), nil
		default:
			return "", fmt.Errorf("dom0: more than one Xen in the packages: %s", strings.Join(names, ", "))
		}
	}
	return "", fmt.Errorf("%w: xl (package xen-utils-*)", image.ErrNotFound)
}
