package guest

import (
	"bytes"
	"fmt"
	"strings"
)

// XLConfig returns the guest's configuration for xl; kernel and ramdisk are the
// paths of what it boots; a boot loader has the second inside the first.
func (s Spec) XLConfig(kernel, ramdisk string) (string, error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	s = s.withDefaults()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("name = %q", s.Name)
	switch {
	case s.PV:
		line("type = %q", "pv")
	case s.HVM:
		line("type = %q", "hvm")
		// Nobody looks at its screen.
		for _, setting := range []string{`vga = "none"`, "nographic = 1", "vnc = 0"} {
			line("%s", setting)
		}
	default:
		line("type = %q", "pvh")
	}
	line("kernel = %q", kernel)
	if !s.bootLoader() { // otherwise both are inside the kernel's image
		line("ramdisk = %q", ramdisk)
		line("extra = %q", s.kernelArgs())
	}
	line("memory = %d", s.MemoryMiB)
	line("maxmem = %d", s.MemoryMiB)
	line("vcpus = %d", s.VCPUs)
	if s.CPUs != "" {
		line("cpus = %q", s.CPUs)
	}
	// Otherwise every RDTSC may be an exit.
	line("tsc_mode = %q", "native")
	if s.AltP2M {
		line("altp2m = %q", "external")
	}
	if s.Label != "" {
		line("seclabel = %q", s.Label)
	}
	// A guest that ended must stay to be seen; the lab destroys it.
	for _, event := range []string{"on_poweroff", "on_reboot", "on_crash", "on_watchdog"} {
		action := "preserve"
		if event == "on_reboot" && s.Restarts {
			action = "restart"
		}
		line("%s = %q", event, action)
	}
	return b.String(), nil
}

// fillCmdline returns image with its placeholder replaced.
func fillCmdline(image []byte, cmdline string) ([]byte, error) {
	p := Placeholder()
	at := bytes.Index(image, p)
	if at < 0 || bytes.Contains(image[at+len(p):], p) {
		return nil, fmt.Errorf("guest: the kernel image has no room for the command line, or more than one")
	}
	if len(cmdline) > len(p) {
		return nil, fmt.Errorf("%w: kernel command line of %d bytes", ErrSpec, len(cmdline))
	}
	image = bytes.Clone(image)
	n := copy(image[at:], cmdline)
	for i := at + n; i < at+len(p); i++ {
		image[i] = ' '
	}
	return image, nil
}
