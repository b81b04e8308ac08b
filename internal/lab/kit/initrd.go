// Package kit builds what the lab's guests are made of: their kernels, with
// and without a random address, and their initramfs.
package kit

import (
	_ "embed"
	"fmt"
	"io"

	"github.com/govmi/govmi/internal/lab/image"
)

//go:embed init.sh
var initScript []byte

// InitrdConfig says what the guests' initramfs holds.
type InitrdConfig struct {
	// Tree holds the packages busybox-static and bash with its libraries.
	Tree image.Tree
	// Workload is the workload program, a static binary of this machine.
	Workload string
	// Programs are more static binaries, by their path in the guest.
	Programs map[string]string
	// Releases are those of the kernels whose modules it has, for tests to
	// load; [Write] adds the kit's.
	Releases []string
	// Compiler, if not nil, is added to it.
	Compiler *Compiler
}

// guestModules are small ones that do nothing by themselves; macvtap needs two
// others.
var guestModules = []string{"dummy", "macvtap"}

// WriteInitrd writes the initramfs as an uncompressed newc archive.
func WriteInitrd(w io.Writer, cfg InitrdConfig) error {
	b := image.NewBuilder(cfg.Tree)
	if err := b.Copy("/bin/busybox", 0o755); err != nil {
		return err
	}
	if err := b.Program("/bin/bash"); err != nil {
		return err
	}
	if err := b.HostFile("/bin/workload", 0o755, cfg.Workload); err != nil {
		return err
	}
	for name, source := range cfg.Programs {
		if err := b.HostFile(name, 0o755, source); err != nil {
			return err
		}
	}
	if cfg.Compiler != nil {
		if err := cfg.Compiler.add(b); err != nil {
			return err
		}
	}
	for _, release := range cfg.Releases {
		if _, err := b.Modules(release, guestModules...); err != nil {
			return err
		}
	}
	b.Link("/bin/sh", "busybox")
	b.File("/init", 0o755, initScript)
	b.File("/etc/hostname", 0o644, []byte("guest\n"))
	b.File("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/sh\n"))
	b.File("/etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	b.File("/etc/hosts", 0o644, []byte("127.0.0.1 localhost guest\n"))
	b.File("/etc/os-release", 0o644, []byte("NAME=\"govmi lab guest\"\nID=govmi\n"))
	b.Char("/dev/console", 0o600, 5, 1)
	b.Char("/dev/null", 0o666, 1, 3)
	b.Dir("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/sbin", "/usr/bin", "/usr/sbin", "/var")
	if err := b.Write(w); err != nil {
		return fmt.Errorf("kit: %w", err)
	}
	return nil
}
