package main

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

// What cannot be traced is refused in one line that says what to do, and
// leaves nothing behind.
func TestRefusedByFake(t *testing.T) {
	for _, tt := range []struct {
		name  string
		xen   xenfake.Config
		guest xenfake.DomainConfig
		args  []string
		taken bool // another monitor is attached
		died  bool // and was killed
		cpu   *abi.HVMHWCPU
		want  string
	}{
		{name: "not Xen", xen: xenfake.Config{Missing: map[device.Kind]error{device.Privcmd: syscall.ENOENT}}, want: "not a Xen control domain"},
		{name: "other system", xen: xenfake.Config{Missing: map[device.Kind]error{device.Privcmd: device.ErrPlatform}}, want: "needs a Xen control domain"},
		{name: "not root", xen: xenfake.Config{Missing: map[device.Kind]error{device.Privcmd: syscall.EACCES}}, want: "run as root in dom0"},
		{name: "no name", args: []string{"-domain", "nobody"}, want: "no domain is named"},
		{name: "no number", args: []string{"-domain", "99"}, want: "no such domain"},
		{name: "PV", guest: xenfake.DomainConfig{PV: true}, want: "PV guests cannot be monitored"},
		{name: "shadow", guest: xenfake.DomainConfig{Shadow: true}, want: "hap"},
		{name: "taken", taken: true, want: "another monitor is attached"},
		{name: "died", taken: true, died: true, want: "run \"recover -domain victim\" first"},
		{name: "booting", cpu: &abi.HVMHWCPU{}, want: "still booting"},
		{name: "no Linux", cpu: &abi.HVMHWCPU{LSTAR: 0xffffffff81000000, CR3: 0x1000, CR0: 1<<31 | 1, CR4: 1 << 5, EFER: 0x500}, want: "does not run a 64-bit Linux"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := xenfake.New(t, &tt.xen)
			tt.guest.ID, tt.guest.Name = 7, "victim"
			d := x.AddDomain(&tt.guest)
			if tt.cpu != nil {
				d.SetCPU(0, tt.cpu)
			}
			opts := &xen.Options{Devices: x}
			if tt.taken {
				h, err := xen.Open(opts)
				if err != nil {
					t.Fatal(err)
				}
				dom, err := h.Domain(7)
				if err != nil {
					t.Fatal(err)
				}
				mon, err := dom.OpenMonitor(nil)
				if err != nil {
					t.Fatal(err)
				}
				if tt.died {
					x.KillProcesses()
				} else {
					defer h.Close()
					defer mon.Close()
				}
			}
			if tt.args == nil {
				tt.args = []string{"-domain", "victim"}
			}
			var out, msg bytes.Buffer
			if status := runOn(t.Context(), opts, tt.args, &out, &msg); status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			if s := msg.String(); !strings.HasPrefix(s, "syscalltrace: ") || !strings.Contains(strings.ToLower(s), strings.ToLower(tt.want)) || strings.Count(s, "\n") != 1 || out.Len() != 0 {
				t.Errorf("message %q, output %q; want %q", s, out.String(), tt.want)
			}
			if leaks := x.Leaks(); leaks != nil && !tt.taken {
				t.Errorf("left behind: %v", leaks)
			}
		})
	}
}
