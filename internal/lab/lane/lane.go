// Package lane boots Xen in a machine emulator. There are two lanes, because each emulator lacks something:
//
//   - VMX is Bochs: Intel VT-x with EPT, everything that Xen's vm_event and altp2m offer, one CPU, and a clock that counts instructions,
//     so that guest time does not depend on the load of the machine.
//   - SVM is QEMU's TCG: AMD SVM with nested paging, two CPUs, several times faster, but without altp2m and single-stepping, and on the
//     machine's clock.
//
// Both have the same devices: the first serial port is the console of Xen and of dom0, the second belongs to dom0 as its ttyS1 (port 0x2f8,
// IRQ 3), and three IDE disks are sda, sdb and sdc on Intel's PIIX. What the host writes into a disk's file is what dom0 reads when it
// bypasses its page cache, and the other way round.
package lane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/debian"
	"github.com/govmi/govmi/internal/lab/emulator"
)

// Lane names an emulator with its virtualization extension.
type Lane string

// The lanes.
const (
	VMX Lane = "vmx"
	SVM Lane = "svm"
)

// Parse reads the name of a lane.
func Parse(s string) (Lane, error) {
	switch l := Lane(s); l {
	case VMX, SVM:
		return l, nil
	}
	return "", fmt.Errorf("lane %q: want %s or %s", s, VMX, SVM)
}

// CPUs is how many physical CPUs the lane's machine has, if not told otherwise. Bochs runs them in turns, at which guests with two die.
func (l Lane) CPUs() int {
	if l == SVM {
		return 2
	}
	return 1
}

// Spec says what to boot. All paths are the host's.
type Spec struct {
	Lane Lane
	// Xen is the hypervisor: the ELF file, or that compressed with gzip.
	Xen string
	// XenArgs are added to the lane's own Xen command line; a later setting of an option wins.
	XenArgs []string
	// Kernel is dom0's bzImage or ELF file, KernelArgs are added to its command line.
	Kernel     string
	KernelArgs []string
	// Initrd is dom0's initramfs.
	Initrd string
	// Modules are more boot modules for Xen, after the kernel and the initramfs.
	Modules []string
	// Disks are raw images, for sda, sdb and sdc. An empty name leaves one out.
	Disks [3]string
	// CPUs is the number of physical CPUs, 0 means the lane's own.
	CPUs int
	// MemoryMiB is the machine's memory, 0 means 2048; Dom0MiB is dom0's part of it, 0 means 768.
	MemoryMiB, Dom0MiB int
	// Dir is an empty folder for the machine's own files; its console is Dir/console.log.
	Dir string
}

func (s *Spec) withDefaults() Spec {
	c := *s
	if c.CPUs == 0 {
		c.CPUs = c.Lane.CPUs()
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 2048
	}
	if c.Dom0MiB == 0 {
		c.Dom0MiB = 768
	}
	return c
}

// xenArgs is the whole command line of Xen.
func (s *Spec) xenArgs() []string {
	args := []string{"console=com1", "com1=115200,8n1", fmt.Sprintf("dom0_mem=%dM,max:%[1]dM", s.Dom0MiB), "noreboot", "sched=credit"}
	switch s.Lane {
	case VMX:
		// Leave the screen alone: with a video mode that the BIOS does not know Xen waits half a minute for a key.
		args = append(args, "vga=current", "edid=no", "edd=off", "cpuidle=0", "hpet=0", "ept=exec-sp", "altp2m=1")
		// With virtual interrupt delivery Bochs reports stale vectoring events, after which the guest dies.
		args = append(args, "apicv=0")
	case SVM:
		args = append(args, "dom0_max_vcpus=1", "dom0_vcpus_pin")
	}
	return append(args, s.XenArgs...)
}

func (s *Spec) kernelArgs() []string {
	// Without its tests of ciphers and of its own page tables dom0 starts in half the time.
	return append([]string{"console=hvc0", "cryptomgr.notests", "rodata=off"}, s.KernelArgs...)
}

// ErrArgument reports a command line argument that a boot loader would not pass on unchanged.
var ErrArgument = errors.New("lane: argument with a character that the boot loader treats specially")

func checkArgs(args []string) error {
	for _, a := range args {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'\\$;&|<>{}()#", r)
		}) {
			return fmt.Errorf("%w: %q", ErrArgument, a)
		}
	}
	return nil
}

// tools are the programs and firmware of a lane.
type tools struct {
	emulator string
	tree     *debian.Tree
}

// prepare gets what the lane needs: at once from the cache, otherwise from Debian.
func prepare(ctx context.Context, cacheDir string, l Lane, progress func(string)) (*tools, error) {
	var (
		t   tools
		err error
	)
	switch l {
	case VMX:
		if t.emulator, err = emulator.Bochs(ctx, cacheDir, progress); err != nil {
			return nil, err
		}
		t.tree, err = debian.Fetch(ctx, cacheDir, "bookworm", "bochsbios", "vgabios")
	case SVM:
		if t.emulator, err = emulator.QEMU(ctx, cacheDir, progress); err != nil {
			return nil, err
		}
		t.tree, err = debian.Fetch(ctx, cacheDir, "bookworm", "qemu-system-data", "seabios")
	default:
		_, err = Parse(string(l))
	}
	if err != nil {
		return nil, fmt.Errorf("lane %s: %w", l, err)
	}
	return &t, nil
}

// Prepare fetches and builds what a lane needs, so that a later start finds it in the cache. progress may be nil.
func Prepare(ctx context.Context, cacheDir string, l Lane, progress func(string)) error {
	_, err := prepare(ctx, cacheDir, l, progress)
	return err
}

// Identity tells what a lane runs in from any other emulator and firmware.
func Identity(ctx context.Context, cacheDir string, l Lane, progress func(string)) (string, error) {
	t, err := prepare(ctx, cacheDir, l, progress)
	if err != nil {
		return "", err
	}
	// The cache names an emulator's folder by all that it is built from.
	return filepath.Base(filepath.Dir(t.emulator)) + " " + t.tree.Key(), nil
}

// ConsoleFile is where a machine with the given folder writes its console.
func ConsoleFile(dir string) string { return filepath.Join(dir, "console.log") }
