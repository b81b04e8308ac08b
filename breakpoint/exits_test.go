package breakpoint

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// part takes instructions in hexadecimal.
func part(at vmi.VirtAddr, text string) Code {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(text))
	if err != nil {
		panic(err)
	}
	return Code{at, b}
}

const retThunk = 0x9000

func exitsOf(parts ...Code) ([]Exit, error) {
	return Exits(func(va vmi.VirtAddr) bool { return va == retThunk }, parts...)
}

// brief is what is compared of an exit.
type brief struct {
	Addr   vmi.VirtAddr
	Tail   bool
	Target vmi.VirtAddr
}

func TestExits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		parts []Code
		want  []brief
	}{
		{"two returns, and padding", []Code{part(0x1000, "f30f1efa | 85ff | 7402 | c3 | cc | 31c0 | c3 | cc | 0f1f00 | 90")},
			[]brief{{Addr: 0x1008}, {Addr: 0x100c}}},
		{"return thunk", []Code{part(0x1000, "31c0 | e9f97f0000 | cc")}, []brief{{Addr: 0x1002}}},
		{"tail call", []Code{part(0x1000, "5b | e9fa0f0000")}, []brief{{Addr: 0x1001, Tail: true, Target: 0x2000}}},
		{"conditional tail call", []Code{part(0x1000, "85ff | 0f84f80f0000 | c3")},
			[]brief{{Addr: 0x1002, Tail: true, Target: 0x2000}, {Addr: 0x1008}}},
		{"through a register", []Code{part(0x1000, "ffe0")}, []brief{{Addr: 0x1000, Tail: true}}},
		{"cold part that comes back", []Code{part(0x1000, "85ff | 0f84f80f0000 | c3"), part(0x2000, "0f0b | e901f0ffff")},
			[]brief{{Addr: 0x1008}}},
		{"user access", []Code{part(0x1000, "0f01cb | 8907 | 0f01ca | c3")}, []brief{{Addr: 0x1008}}},
		{"never returns", []Code{part(0x1000, "e8fb0f0000 | 0f0b")}, nil},
		{"nothing", nil, nil},
	} {
		got, err := exitsOf(tt.parts...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var short []brief
		for _, e := range got {
			short = append(short, brief{e.Addr, e.Tail, e.Target})
		}
		if diff := cmp.Diff(tt.want, short); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestExitsUncertain(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"jump into an instruction", "7401 | 31c0 | c3", "leads into an instruction"},
		{"jump table", "ff24c500200000", "jump through memory"},
		{"int3 of somebody", "90 | cc | c3", "int3"},
		{"interrupt return", "48cf", "IRETQ"},
		{"cut off", "48", "unrecognized"},
		{"unknown", "0fff", "at 0x1000"},
	} {
		_, err := exitsOf(part(0x1000, tt.text))
		if !errors.Is(err, ErrExits) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestExitLeaves(t *testing.T) {
	const zf = 1 << 6
	exits, err := exitsOf(part(0x1000, "0f84fa0f0000 | ffe1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		exit int
		regs xen.Registers
		want bool
	}{
		{0, xen.Registers{RFLAGS: 2 | zf}, true},
		{0, xen.Registers{RFLAGS: 2}, false},
		{1, xen.Registers{RCX: 0x1000}, false},
		{1, xen.Registers{RCX: 0x1008}, true},
	} {
		if got := exits[tt.exit].Leaves(&tt.regs); got != tt.want {
			t.Errorf("exit %d with %+v: %t", tt.exit, tt.regs, got)
		}
	}
}

// Each condition holds for the flags that the processor's manual gives it.
func TestJumpConditions(t *testing.T) {
	const cf, pf, zf, sf, of = 1 << 0, 1 << 2, 1 << 6, 1 << 7, 1 << 11
	holds := [8]func(f uint64) bool{
		func(f uint64) bool { return f&of != 0 },
		func(f uint64) bool { return f&cf != 0 },
		func(f uint64) bool { return f&zf != 0 },
		func(f uint64) bool { return f&(cf|zf) != 0 },
		func(f uint64) bool { return f&sf != 0 },
		func(f uint64) bool { return f&pf != 0 },
		func(f uint64) bool { return (f&sf != 0) != (f&of != 0) },
		func(f uint64) bool { return f&zf != 0 || (f&sf != 0) != (f&of != 0) },
	}
	for bits := range uint64(32) {
		var f uint64
		for i, flag := range []uint64{cf, pf, zf, sf, of} {
			if bits>>i&1 != 0 {
				f |= flag
			}
		}
		for c := range 16 {
			if got, want := taken(c, f), holds[c/2](f) == (c%2 == 0); got != want {
				t.Errorf("condition %d with flags %#x: %t", c, f, got)
			}
		}
	}
}

// Whatever a guest has for code, exits are at instructions of it.
func FuzzExits(f *testing.F) {
	f.Add([]byte("\xf3\x0f\x1e\xfa\x85\xff\x74\x02\xc3\xcc\x31\xc0\xc3"), []byte("\x0f\x0b\xe9\x01\xf0\xff\xff"))
	f.Fuzz(func(t *testing.T, main, cold []byte) {
		if len(main)+len(cold) > 1<<16 {
			return
		}
		parts := []Code{{0x1000, main}, {0x200000, cold}}
		exits, err := exitsOf(parts...)
		if err != nil && (!errors.Is(err, ErrExits) || exits != nil) {
			t.Errorf("%v with %v", exits, err)
		}
		for _, e := range exits {
			if !parts[0].has(e.Addr) && !parts[1].has(e.Addr) {
				t.Errorf("exit at %v", e.Addr)
			}
			e.Leaves(&xen.Registers{})
		}
	})
}
