// Package lab boots a real Xen in an emulator and runs programs in its dom0.
//
// A [Session] is one boot and serves many jobs, one after another, because boots are what costs. A job's files and results travel on disks,
// its control and live output on a serial port; nothing has succeeded without the explicit word of the agent in dom0.
//
// The machine needs Go, git and apt, nothing of Xen and no hardware virtualization. What comes from Debian is kept in a cache folder.
package lab

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/debian"
	"github.com/govmi/govmi/internal/lab/dom0"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/image"
	"github.com/govmi/govmi/internal/lab/kit"
	"github.com/govmi/govmi/internal/lab/lane"
	"github.com/govmi/govmi/internal/lab/wire"
	"github.com/govmi/govmi/internal/lab/yardstick"
)

// Boot says what is booted. The zero value is Debian bookworm's Xen and kernels.
type Boot struct {
	// Suite of Debian that Xen and its tools come from: bullseye has Xen 4.14, bookworm 4.17, trixie 4.20. Empty is bookworm.
	Suite string
	// Xen is another hypervisor to boot than the suite's: [Patched] or [Flask], which are built from bookworm's source, or the path of an ELF
	// file, gzipped or not, of the same version as the suite's tools.
	Xen string
	// XenArgs and KernelArgs are added to the command lines of Xen and of dom0's kernel.
	XenArgs, KernelArgs []string
	// KernelSuite is the suite of dom0's kernel; empty is bookworm.
	KernelSuite string
	// GuestSuites are the suites whose kernels are at hand for guests, by the suite's name; empty is bookworm alone.
	GuestSuites []string
	// GuestImages are the guests' images, by the names of package guest, that are at hand beside the standard one.
	GuestImages []string
	// CPUs is how many physical CPUs the machine has; 0 is the lane's number.
	CPUs int
	// DeviceModel has dom0 run HVM guests with a device model.
	DeviceModel bool
	// Yardstick puts the programs in C that tests measure against into dom0's PATH, in bookworm.
	Yardstick bool
	// Programs are packages of this module, as patterns of the go command, whose programs are in dom0's PATH; nil is those of the examples.
	Programs []string
	// JobMiB and ResultMiB bound what a job takes in and brings back; 0 is 1024. The images are sparse.
	JobMiB, ResultMiB int
}

func (b *Boot) withDefaults() Boot {
	c := *b
	for _, d := range []struct {
		field *string
		value string
	}{{&c.Suite, "bookworm"}, {&c.KernelSuite, "bookworm"}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if len(c.GuestSuites) == 0 {
		c.GuestSuites = []string{"bookworm"}
	}
	if c.JobMiB == 0 {
		c.JobMiB = 1024
	}
	if c.ResultMiB == 0 {
		c.ResultMiB = 1024
	}
	return c
}

// Names of the packages, in all suites.
const (
	xenSpec         = "xen-system-amd64>xen-hypervisor-4"
	toolsSpec       = "xen-system-amd64>xen-utils-4"
	dom0KernelSpec  = "linux-image-amd64>linux-image-"
	guestKernelSpec = "linux-image-cloud-amd64>linux-image-"
)

// yardstickSuite is the one whose C library is old enough for this machine's compiler and new enough.
const yardstickSuite = "bookworm"

func (b *Boot) yardstick(ctx context.Context, cacheDir string, progress func(string)) (map[string]string, error) {
	tree, err := debian.Fetch(ctx, cacheDir, b.Suite, toolsSpec+"+", yardstick.Headers)
	if err != nil {
		return nil, err
	}
	return yardstick.Build(ctx, cacheDir, tree, progress)
}

// images makes everything that a lane boots, in dir. It is fast enough to be done anew for each boot: what takes long is cached.
func (b *Boot) images(ctx context.Context, cacheDir, dir string, l lane.Lane, progress func(string)) (*lane.Spec, error) {
	programs := filepath.Join(dir, "programs")
	bins, err := buildPrograms(ctx, programs, b.Programs)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(programs)
	tools, err := debian.Fetch(ctx, cacheDir, b.Suite, xenSpec, toolsSpec+"+", "xenstore-utils+", "busybox-static", "bash+", "libgcc-s1")
	if err != nil {
		return nil, err
	}
	tree := image.Tree(tools.Dirs())
	if b.DeviceModel {
		t, err := debian.Fetch(ctx, cacheDir, b.Suite, "qemu-system-xen+", "qemu-system-data", "seabios")
		if err != nil {
			return nil, err
		}
		tree = append(tree, t.Dirs()...)
	}
	kernels, err := debian.Fetch(ctx, cacheDir, b.KernelSuite, dom0KernelSpec)
	if err != nil {
		return nil, err
	}
	kernel, _ := kernels.Package(dom0KernelSpec)
	release := strings.TrimPrefix(kernel.Name, "linux-image-")
	spec := &lane.Spec{
		Lane: l, CPUs: b.CPUs, Dir: dir, XenArgs: b.XenArgs, KernelArgs: b.KernelArgs,
		Initrd: filepath.Join(dir, "dom0.img"),
	}
	spec.Kernel, err = expandKernel(ctx, cacheDir, kernel, filepath.Join(kernel.Dir, "boot", "vmlinuz-"+release))
	if err != nil {
		return nil, err
	}
	if err := b.hypervisor(ctx, cacheDir, spec, tools, progress); err != nil {
		return nil, err
	}
	var more []kit.Kernel
	if b.Xen == Flask {
		more = []kit.Kernel{{Name: guest.KernelFull, Tree: kernels.Dirs(), Release: release, DirectOnly: true}}
	}
	err = writeFile(spec.Initrd, func(f *os.File) error {
		return dom0.Write(f, dom0.Config{
			Tree: append(tree, kernels.Dirs()...), Kernel: release, Agent: bins["agent"], DeviceModel: b.DeviceModel,
		})
	})
	if err != nil {
		return nil, err
	}
	for i, role := range []wire.Role{wire.RoleJob, wire.RoleResult, wire.RoleKit} {
		spec.Disks[i] = filepath.Join(dir, string(role)+".img")
	}
	if b.Yardstick && b.Suite == yardstickSuite {
		c, err := b.yardstick(ctx, cacheDir, progress)
		if err != nil {
			return nil, err
		}
		maps.Copy(bins, c)
	}
	if err := b.writeDisks(ctx, cacheDir, spec.Disks, bins, more); err != nil {
		return nil, err
	}
	return spec, nil
}

func (b *Boot) writeDisks(ctx context.Context, cacheDir string, disks [3]string, bins map[string]string, more []kit.Kernel) error {
	for i, role := range []wire.Role{wire.RoleJob, wire.RoleResult} {
		mib := []int{b.JobMiB, b.ResultMiB}[i]
		err := writeFile(disks[i], func(f *os.File) error {
			if err := wire.WriteDisk(f, role, strings.NewReader("")); err != nil {
				return err
			}
			return f.Truncate(int64(mib) << 20)
		})
		if err != nil {
			return err
		}
	}
	cfg, err := b.kitConfig(ctx, cacheDir, bins)
	if err != nil {
		return err
	}
	cfg.Kernels = append(cfg.Kernels, more...)
	tarball := disks[2] + ".tar"
	if err := writeFile(tarball, func(f *os.File) error { return kit.Write(ctx, f, *cfg) }); err != nil {
		return err
	}
	defer os.Remove(tarball)
	r, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer r.Close()
	return writeFile(disks[2], func(f *os.File) error {
		if err := wire.WriteDisk(f, wire.RoleKit, r); err != nil {
			return err
		}
		// Whole cylinders of 16 heads and 63 sectors, for emulators that think in them.
		const cylinder = 16 * 63 * 512
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		return f.Truncate((end + cylinder - 1) / cylinder * cylinder)
	})
}

func (b *Boot) kitConfig(ctx context.Context, cacheDir string, bins map[string]string) (*kit.Config, error) {
	tools, err := debian.Fetch(ctx, cacheDir, "bookworm", "busybox-static", "bash+", "grub-common+", "grub-xen-bin")
	if err != nil {
		return nil, err
	}
	cfg := &kit.Config{
		Initrd:   kit.InitrdConfig{Tree: tools.Dirs(), Workload: bins["workload"]},
		Tools:    tools.Dirs(),
		Programs: map[string]string{},
		Images:   map[string]kit.InitrdConfig{},
	}
	for _, name := range b.GuestImages {
		image, err := guestImage(ctx, cacheDir, name, cfg.Initrd)
		if err != nil {
			return nil, err
		}
		cfg.Images[name] = *image
	}
	for name, file := range bins {
		if name != "agent" && name != "workload" {
			cfg.Programs["bin/"+name] = file
		}
	}
	for _, suite := range b.GuestSuites {
		t, err := debian.Fetch(ctx, cacheDir, suite, guestKernelSpec)
		if err != nil {
			return nil, err
		}
		p, _ := t.Package(guestKernelSpec)
		cfg.Kernels = append(cfg.Kernels, kit.Kernel{Name: suite, Tree: t.Dirs(), Release: strings.TrimPrefix(p.Name, "linux-image-")})
	}
	return cfg, nil
}

// Prepare fetches and builds all that a boot needs, so that the next one starts at once. progress may be nil.
func Prepare(ctx context.Context, l lane.Lane, boot *Boot, progress func(string)) error {
	cacheDir, err := cache.Dir()
	if err != nil {
		return err
	}
	if boot == nil {
		boot = &Boot{}
	}
	b := boot.withDefaults()
	if err := b.check(); err != nil {
		return err
	}
	if err := lane.Prepare(ctx, cacheDir, l, progress); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "govmi-lab-")
	if err != nil {
		return err
	}
	_, err = b.images(ctx, cacheDir, dir, l, progress)
	return errors.Join(err, os.RemoveAll(dir))
}

// Refresh gets the current versions of Debian's packages for boots to come.
func Refresh(ctx context.Context, boot *Boot) error {
	cacheDir, err := cache.Dir()
	if err != nil {
		return err
	}
	if boot == nil {
		boot = &Boot{}
	}
	b := boot.withDefaults()
	suites := append([]string{b.Suite, b.KernelSuite, "bookworm"}, b.GuestSuites...)
	slices.Sort(suites)
	for _, suite := range slices.Compact(suites) {
		if err := debian.Refresh(ctx, cacheDir, suite); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(name string, write func(*os.File) error) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}
