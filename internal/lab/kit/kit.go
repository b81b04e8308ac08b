package kit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/image"
	"github.com/govmi/govmi/internal/lab/romfs"
)

// Packages lists the Debian packages that [Config.Tools] is made from, without
// their dependencies; a kernel's is linux-image-RELEASE.
func Packages() []string {
	return []string{"busybox-static", "bash", "grub-xen-bin", "grub-common"}
}

// Kernel is one guest kernel of the kit.
type Kernel struct {
	// Name is what [guest.Spec] calls it.
	Name string
	// Tree holds its package, Release is its release, as in /boot/vmlinuz-*.
	Tree    image.Tree
	Release string
	// DirectOnly leaves out the variant with a random address.
	DirectOnly bool
}

// Config says what the kit holds.
type Config struct {
	Initrd InitrdConfig
	// Images are other initramfs images, by the name that [guest.Spec] calls
	// them. They boot without a random address only.
	Images  map[string]InitrdConfig
	Kernels []Kernel
	// Tools holds the packages of [Packages] with their dependencies.
	Tools image.Tree
	// Programs are static binaries for dom0, by their path in the kit: what is
	// in bin/ is found in dom0's PATH.
	Programs map[string]string
}

// Volume is the name of the kit's file system.
const Volume = "govmi-kit"

// Write writes the kit as a romfs image, which dom0 mounts on [guest.KitDir].
func Write(ctx context.Context, w io.Writer, cfg Config) (err error) {
	dir, err := os.MkdirTemp("", "govmi-kit-")
	if err != nil {
		return fmt.Errorf("kit: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, k := range cfg.Kernels {
		cfg.Initrd.Tree = append(slices.Clip(cfg.Initrd.Tree), k.Tree...)
		cfg.Initrd.Releases = append(slices.Clip(cfg.Initrd.Releases), k.Release)
	}
	initrd := filepath.Join(dir, "initrd.img")
	if err := writeFile(initrd, func(w io.Writer) error { return WriteInitrd(w, cfg.Initrd) }); err != nil {
		return err
	}
	files := maps.Clone(cfg.Programs)
	if files == nil {
		files = map[string]string{}
	}
	files[guest.Initrd] = initrd
	for name, image := range cfg.Images {
		file := filepath.Join(dir, name+".img")
		if err := writeFile(file, func(w io.Writer) error { return WriteInitrd(w, image) }); err != nil {
			return err
		}
		files[guest.InitrdFile(name)] = file
	}
	for _, k := range cfg.Kernels {
		vmlinuz, err := k.Tree.Find("/boot/vmlinuz-" + k.Release)
		if err != nil {
			return err
		}
		files[guest.KernelFile(k.Name)] = vmlinuz
		if k.DirectOnly {
			continue
		}
		kaslr := filepath.Join(dir, k.Name+"-kaslr.bin")
		if err := BuildKASLR(ctx, cfg.Tools, vmlinuz, initrd, kaslr); err != nil {
			return err
		}
		files[guest.KASLRFile(k.Name)] = kaslr
	}
	return romfs.Write(w, Volume, files)
}

func writeFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("kit: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}
