// Package guest describes and runs the lab's guests. The specification and the
// toolstack configuration made from it are plain data and work anywhere;
// starting a guest works in the lab's dom0.
package guest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Defaults of a [Spec].
const (
	DefaultKernel    = "bookworm"
	DefaultMemoryMiB = 192
)

// Spec describes a Linux guest, PVH if it does not say otherwise. The zero value, with a name, is good.
type Spec struct {
	// Name is the domain's name: letters, digits, '-' and '_'.
	Name string
	// Kernel names one of the kit's kernels; empty is [DefaultKernel].
	Kernel string
	// Image names one of the kit's other images, as [ImageCompiler]; empty is
	// the standard one. There is no KASLR with it.
	Image string
	// MemoryMiB is the guest's memory, 0 for [DefaultMemoryMiB].
	MemoryMiB int
	// VCPUs is their number, 0 for one.
	VCPUs int
	// CPUs are the host CPUs that it may run on, in xl's syntax; empty for all.
	CPUs string
	// KASLR has the kernel choose its address at random.
	KASLR bool
	// AltP2M lets dom0 give the guest alternate memory views.
	AltP2M bool
	// PV makes it a paravirtual guest, which cannot be monitored.
	PV bool
	// HVM makes it a guest with a whole PC around it, by a device model in dom0.
	HVM bool
	// Label is what Xen's security policy knows it by, as
	// "system_u:system_r:domU_t", which is also the default.
	Label string
	// Files are files of dom0 that the guest has in addition, by their path in
	// the guest. They are added to the standard image.
	Files map[string]string
	// Restarts has the toolstack make the guest anew when it reboots.
	Restarts bool
	// Cmdline is added to the kernel's command line.
	Cmdline string
	// Run are shell commands that the guest runs in the background once it is
	// ready.
	Run []string
}

// ErrSpec reports a specification that makes no guest.
var ErrSpec = errors.New("guest: bad specification")

var (
	goodName  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,60}$`)
	goodLabel = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,100}$`)
)

func (s Spec) withDefaults() Spec {
	if s.Kernel == "" {
		s.Kernel = DefaultKernel
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = DefaultMemoryMiB
	}
	if s.VCPUs == 0 {
		s.VCPUs = 1
	}
	return s
}

// Validate returns an error that wraps [ErrSpec] and names the field at fault.
func (s Spec) Validate() error {
	s = s.withDefaults()
	switch {
	case !goodName.MatchString(s.Name):
		return fmt.Errorf("%w: name %q", ErrSpec, s.Name)
	case !goodName.MatchString(s.Kernel):
		return fmt.Errorf("%w: kernel %q", ErrSpec, s.Kernel)
	case s.Image != "" && !goodName.MatchString(s.Image):
		return fmt.Errorf("%w: image %q", ErrSpec, s.Image)
	case s.Image != "" && s.bootLoader():
		return fmt.Errorf("%w: image %s is not behind the boot loader that KASLR needs", ErrSpec, s.Image)
	case s.PV && (s.KASLR || s.AltP2M):
		return fmt.Errorf("%w: a PV guest has neither KASLR nor altp2m", ErrSpec)
	case s.PV && s.HVM:
		return fmt.Errorf("%w: a guest is PV or HVM", ErrSpec)
	case len(s.Files) > 0 && s.bootLoader():
		return fmt.Errorf("%w: files do not get behind the boot loader that KASLR needs", ErrSpec)
	case s.Label != "" && !goodLabel.MatchString(s.Label):
		return fmt.Errorf("%w: label %q", ErrSpec, s.Label)
	case s.MemoryMiB < 64 || s.MemoryMiB > 4096:
		return fmt.Errorf("%w: %d MiB of memory", ErrSpec, s.MemoryMiB)
	case s.VCPUs < 1 || s.VCPUs > 16:
		return fmt.Errorf("%w: %d vCPUs", ErrSpec, s.VCPUs)
	case strings.ContainsAny(s.Cmdline, "\"\\\n"):
		return fmt.Errorf("%w: kernel command line %q", ErrSpec, s.Cmdline)
	case strings.ContainsAny(s.CPUs, "\"\\\n"):
		return fmt.Errorf("%w: CPUs %q", ErrSpec, s.CPUs)
	case len(s.kernelArgs()) > CmdlineRoom:
		return fmt.Errorf("%w: kernel command line of more than %d bytes", ErrSpec, CmdlineRoom)
	}
	return nil
}

// bootLoader tells whether the kernel is behind the kit's boot loader, so that it
// can choose its address. A PC's firmware lets it do so anyway.
func (s Spec) bootLoader() bool { return s.KASLR && !s.HVM }

// kernelArgs is the guest kernel's whole command line. Its messages below
// warnings are left out, because every byte costs time under an emulator, and
// so are its self-tests of cryptography: half of the boot.
func (s Spec) kernelArgs() string {
	args := "console=hvc0 loglevel=5 panic=0 cryptomgr.notests"
	if !s.KASLR {
		args += " nokaslr"
	}
	if s.Cmdline != "" {
		args += " " + s.Cmdline
	}
	return args
}
