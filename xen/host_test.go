package xen_test

import (
	"testing"

	"github.com/govmi/govmi/xen"
)

func TestBootOption(t *testing.T) {
	for _, tt := range []struct {
		line      string
		on, given bool
	}{
		{"", false, false},
		{"console=com1 altp2m=1 loglvl=all", true, true},
		{"altp2m", true, true},
		{"altp2m=on", true, true},
		{"altp2m=0", false, true},
		{"no-altp2m", false, true},
		{"altp2m=1 altp2m=off", false, true},
		{"no-altp2m altp2m=true", true, true},
		{"altp2m=maybe", false, false},
		{"altp2m2=1 xaltp2m=1 dom0_altp2m", false, false},
		{"altp2m=1 altp2m=maybe", true, true},
	} {
		b := xen.Build{CommandLine: tt.line}
		if on, given := b.BootOption("altp2m"); on != tt.on || given != tt.given {
			t.Errorf("%q: %t, %t", tt.line, on, given)
		}
	}
}
