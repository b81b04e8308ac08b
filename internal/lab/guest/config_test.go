package guest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rest is the configuration of a plain guest after its kind.
const rest = `kernel = "/k"
ramdisk = "/r"
extra = "console=hvc0 loglevel=5 panic=0 cryptomgr.notests nokaslr"
memory = 192
maxmem = 192
vcpus = 1
tsc_mode = "native"
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
on_watchdog = "preserve"
`

func TestXLConfig(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"defaults", Spec{Name: "g"}, `name = "g"
type = "pvh"
kernel = "/k"
ramdisk = "/r"
extra = "console=hvc0 loglevel=5 panic=0 cryptomgr.notests nokaslr"
memory = 192
maxmem = 192
vcpus = 1
tsc_mode = "native"
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
on_watchdog = "preserve"
`},
		{"made anew", Spec{Name: "g", Restarts: true}, "name = \"g\"\ntype = \"pvh\"\n" + strings.Replace(rest, `on_reboot = "preserve"`, `on_reboot = "restart"`, 1)},
		{"everything", Spec{Name: "g_2", Kernel: "trixie", MemoryMiB: 256, VCPUs: 2, CPUs: "0-1", KASLR: true, AltP2M: true, Cmdline: "nopti"}, `name = "g_2"
type = "pvh"
kernel = "/k"
memory = 256
maxmem = 256
vcpus = 2
cpus = "0-1"
tsc_mode = "native"
altp2m = "external"
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
on_watchdog = "preserve"
`},
		{"image", Spec{Name: "g", Image: "compiler"}, "name = \"g\"\ntype = \"pvh\"\n" + rest},
		{"label", Spec{Name: "g", Label: "u:r:t"}, "name = \"g\"\ntype = \"pvh\"\n" + strings.Replace(rest, "native\"\n", "native\"\nseclabel = \"u:r:t\"\n", 1)},
		{"paravirtual", Spec{Name: "g", PV: true}, "name = \"g\"\ntype = \"pv\"\n" + rest},
		{"PC", Spec{Name: "g", HVM: true}, "name = \"g\"\ntype = \"hvm\"\nvga = \"none\"\nnographic = 1\nvnc = 0\n" + rest},
		{"PC, KASLR", Spec{Name: "g", HVM: true, KASLR: true},
			"name = \"g\"\ntype = \"hvm\"\nvga = \"none\"\nnographic = 1\nvnc = 0\n" + strings.Replace(rest, " nokaslr", "", 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.spec.XLConfig("/k", "/r")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for name, spec := range map[string]Spec{
		"no name":        {},
		"name":           {Name: "a b"},
		"kernel":         {Name: "g", Kernel: "../x"},
		"image":          {Name: "g", Image: "../x"},
		"image, KASLR":   {Name: "g", Image: "compiler", KASLR: true},
		"label":          {Name: "g", Label: `u:r:t"`},
		"files, KASLR":   {Name: "g", Files: map[string]string{"/a": "/b"}, KASLR: true},
		"memory":         {Name: "g", MemoryMiB: 1},
		"negative vCPUs": {Name: "g", VCPUs: -1},
		"quote":          {Name: "g", Cmdline: `a" b`},
		"CPUs":           {Name: "g", CPUs: "0\n"},
		"PV and KASLR":   {Name: "g", PV: true, KASLR: true},
		"PV and PC":      {Name: "g", PV: true, HVM: true},
		"long":           {Name: "g", Cmdline: strings.Repeat("x", CmdlineRoom)},
	} {
		if err := spec.Validate(); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: got %v, want ErrSpec", name, err)
		}
	}
}

func TestFillCmdline(t *testing.T) {
	image := append([]byte("linux (memdisk)/vmlinuz "), Placeholder()...)
	image = append(image, "\ninitrd"...)
	got, err := fillCmdline(image, "console=hvc0 x")
	if err != nil {
		t.Fatal(err)
	}
	want := "linux (memdisk)/vmlinuz console=hvc0 x" + strings.Repeat(" ", CmdlineRoom-14) + "\ninitrd"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, bad := range map[string][]byte{"none": []byte("linux"), "two": append(bytes.Clone(image), image...)} {
		if _, err := fillCmdline(bad, "x"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := fillCmdline(image, strings.Repeat("x", CmdlineRoom+1)); !errors.Is(err, ErrSpec) {
		t.Errorf("too long: got %v", err)
	}
}

func TestCommandLines(t *testing.T) {
	if diff := cmp.Diff([]string{"7.1 b echo hello"}, commandLines("7.1", "echo hello", "b")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, script := range []string{"a\nb", strings.Repeat("x", 5000), strings.Repeat("y\n", lineRoom)} {
		lines := commandLines("7.2", script, "f")
		var got []byte
		for i, line := range lines {
			if len(line) > 4000 {
				t.Errorf("line of %d bytes", len(line))
			}
			if i == len(lines)-1 {
				if line != "7.2 F " {
					t.Errorf("last line is %q", line)
				}
				continue
			}
			text, ok := strings.CutPrefix(line, "7.2 a ")
			if !ok {
				t.Fatalf("line %q", line)
			}
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
		}
		if diff := cmp.Diff(script+"\n", string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
