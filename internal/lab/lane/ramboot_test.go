package lane

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestBootROM(t *testing.T) {
	rom := bootROM(0x200000)
	if len(rom)%2048 != 0 || rom[0] != 0x55 || rom[1] != 0xaa || int(rom[2])*512 != len(rom) {
		t.Errorf("header % x of %d bytes", rom[:3], len(rom))
	}
	var sum byte
	for _, b := range rom {
		sum += b
	}
	if sum != 0 {
		t.Errorf("checksum %#x, want 0", sum)
	}
}

func TestMultibootInfo(t *testing.T) {
	b := multibootInfo("xen a=b", []module{{1, 2, "kernel x"}, {3, 4, "initrd"}}, 2048)
	word := func(at uint32) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	text := func(addr uint32) string {
		s, _, _ := strings.Cut(string(b[addr-infoAddr:]), "\x00")
		return s
	}
	if got := text(word(16)); got != "xen a=b" {
		t.Errorf("command line %q", got)
	}
	if n := word(20); n != 2 {
		t.Errorf("%d modules, want 2", n)
	}
	for i, want := range []module{{1, 2, "kernel x"}, {3, 4, "initrd"}} {
		at := word(24) - infoAddr + uint32(i)*16
		if got := (module{word(at), word(at + 4), text(word(at + 8))}); got != want {
			t.Errorf("module %d is %+v, want %+v", i, got, want)
		}
	}
}
