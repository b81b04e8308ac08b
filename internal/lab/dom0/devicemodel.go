package dom0

import (
	"path"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/image"
)

// deviceModel adds QEMU and what it and the toolstack load into an HVM guest: its
// firmware, and the boot ROMs that start a kernel without a disk.
func deviceModel(b *image.Builder, toolsDir string) error {
	if err := b.Program(guest.DeviceModel); err != nil {
		return err
	}
	for _, name := range []string{
		path.Join(toolsDir, "../boot/hvmloader"), "/usr/share/seabios/bios-256k.bin",
		"/usr/share/qemu/linuxboot.bin", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin",
		"/usr/share/qemu/keymaps/en-us",
	} {
		if err := b.Copy(name, 0o644); err != nil {
			return err
		}
	}
	return nil
}
