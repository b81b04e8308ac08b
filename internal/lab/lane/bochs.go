package lane

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// bochs prepares the memory to start with and a configuration, and returns the emulator's command line.
func bochs(s *Spec, t *tools, control string) ([]string, error) {
	rom, images, err := ramBoot(s)
	if err != nil {
		return nil, err
	}
	bios, err := t.tree.Path("/usr/share/bochs/BIOS-bochs-latest")
	if err != nil {
		return nil, err
	}
	vga, err := t.tree.Path("/usr/share/vgabios/vgabios.bin")
	if err != nil {
		return nil, err
	}
	rc := filepath.Join(s.Dir, "bochsrc")
	if err := os.WriteFile(rc, []byte(bochsConfig(s, bios, vga, rom, images, control)), 0o644); err != nil {
		return nil, err
	}
	return []string{t.emulator, "-q", "-f", rc}, nil
}

func bochsConfig(s *Spec, bios, vga, rom string, images []ramImage, control string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("cpu: model=corei7_skylake_x, count=%d, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1", s.CPUs)
	line("memory: guest=%d, host=%d", s.MemoryMiB, s.MemoryMiB)
	line("romimage: file=%q", bios)
	line("vgaromimage: file=%q", vga)
	line("vga: extension=none")
	line("display_library: nogui")
	// Virtual time counts instructions, and starts at the host's time.
	line("clock: sync=none, time0=utc")
	line("ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14")
	line("ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15")
	for i, where := range []string{"ata0-master", "ata0-slave", "ata1-master"} {
		if s.Disks[i] != "" {
			line("%s: type=disk, path=%q, mode=flat", where, s.Disks[i])
		}
	}
	line("optromimage1: file=%q, address=%#x", rom, romAddr)
	for i, img := range images {
		line("optramimage%d: file=%q, address=%#x", i+1, img.file, img.addr)
	}
	line("boot: disk")
	line("com1: enabled=1, mode=file, dev=%q", ConsoleFile(s.Dir))
	line("com2: enabled=1, mode=socket-client, dev=%q", control)
	line("log: %q", filepath.Join(s.Dir, "bochs.log"))
	line("panic: action=report")
	// dom0 probes registers that it may not; a line for each would fill the disk.
	line("error: action=ignore")
	line("info: action=ignore")
	line("debug: action=ignore")
	line("mouse: enabled=0")
	return b.String()
}
