package breakpoint

import (
	"errors"
	"testing"
)

func TestInstruction(t *testing.T) {
	for _, tc := range []struct {
		name string
		code []byte
		want int // 0: refused
	}{
		{"endbr64", []byte{0xf3, 0x0f, 0x1e, 0xfa, 0x90}, 4},
		{"ftrace nop", []byte{0x0f, 0x1f, 0x44, 0x00, 0x00, 0x55}, 5},
		{"push rbp", []byte{0x55, 0x90}, 1},
		{"push r15", []byte{0x41, 0x57}, 2},
		{"mov rbp, rsp", []byte{0x48, 0x89, 0xe5}, 3},
		{"mov rax, gs:", []byte{0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 1, 0}, 9},
		{"lea r8, [rip]", []byte{0x4c, 0x8d, 0x05, 1, 2, 3, 4}, 7},
		{"call", []byte{0xe8, 1, 2, 3, 4}, 5},
		{"int3", []byte{0xcc, 0x90}, 0},
		{"syscall", []byte{0x0f, 0x05}, 0},
		{"iretq", []byte{0x48, 0xcf}, 0},
		{"mov cr3, rax", []byte{0x0f, 0x22, 0xd8}, 0},
		{"mov ss, eax", []byte{0x8e, 0xd0}, 0},
		{"movups", []byte{0x0f, 0x10, 0xc1}, 0},
		{"ud2", []byte{0x0f, 0x0b}, 0},
		{"pause", []byte{0xf3, 0x90}, 0},
		{"vpxor xmm0, xmm0, xmm0", []byte{0xc5, 0xf9, 0xef, 0xc0, 0xc3}, 0},
		{"cut short", []byte{0x48}, 0},
		{"nothing", nil, 0},
	} {
		in, err := decode(tc.code)
		if err == nil {
			err = in.emulates
		}
		if (err == nil) != (tc.want > 0) || err == nil && in.length != tc.want {
			t.Errorf("%s: length %d, error %v; want length %d", tc.name, in.length, err, tc.want)
		}
		if in.idle != (tc.name == "endbr64" || tc.name == "ftrace nop") {
			t.Errorf("%s does nothing: %v", tc.name, in.idle)
		}
		if err != nil && !errors.Is(err, ErrInstruction) {
			t.Errorf("%s: error %v is no ErrInstruction", tc.name, err)
		}
	}
}

// What the processor cannot execute alone is refused where it would have to, and
// what it can is not, though Xen does not emulate it.
func TestStrategies(t *testing.T) {
	const all = 5 // strategies from ViewByInstruction on
	for _, tc := range []struct {
		name string
		code []byte
		want [all]string // by strategy, empty if refused
	}{
		{"nop", []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}, [all]string{"skip", "skip", "skip", "skip", "skip"}},
		{"push rbp", []byte{0x55}, [all]string{"fast", "fast", "emulate", "two", "emulate"}},
		{"movups", []byte{0x0f, 0x10, 0xc1}, [all]string{"fast", "fast", "", "two", ""}},
		{"vpxor", []byte{0xc5, 0xf9, 0xef, 0xc0, 0xc3}, [all]string{"fast", "fast", "", "two", ""}},
		{"syscall", []byte{0x0f, 0x05}, [all]string{"fast", "fast", "", "two", ""}},
		{"pause", []byte{0xf3, 0x90}, [all]string{"fast", "fast", "", "two", ""}},
		{"mov ss, eax", []byte{0x8e, 0xd0}, [all]string{"fast", "fast", "", "two", ""}},
		{"movsb", []byte{0xa4}, [all]string{"fast", "fast", "", "two", ""}},
		{"rep movsb", []byte{0xf3, 0xa4}, [all]string{}},
		{"rep stosq", []byte{0xf3, 0x48, 0xab}, [all]string{}},
		{"mov cr3, rax", []byte{0x0f, 0x22, 0xd8}, [all]string{}},
		{"mov rax, dr6", []byte{0x0f, 0x21, 0xf0}, [all]string{}},
		{"cpuid", []byte{0x0f, 0xa2}, [all]string{}},
		{"rdtsc", []byte{0x0f, 0x31}, [all]string{}},
		{"wrmsr", []byte{0x0f, 0x30}, [all]string{}},
		{"hlt", []byte{0xf4}, [all]string{}},
		{"out dx, al", []byte{0xee}, [all]string{}},
		{"ud2", []byte{0x0f, 0x0b}, [all]string{}},
		{"int 0x80", []byte{0xcd, 0x80}, [all]string{}},
		{"vmcall", []byte{0x0f, 0x01, 0xc1}, [all]string{}},
	} {
		names := map[way]string{skip: "skip", emulate: "emulate", fastStep: "fast", twoTrips: "two"}
		var got [all]string
		for i := range got {
			c, err := newCode(tc.code, ViewByInstruction+Strategy(i))
			if err == nil {
				got[i] = names[c.way]
			} else if !errors.Is(err, ErrInstruction) {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func FuzzInstruction(f *testing.F) {
	f.Add([]byte{0xf3, 0x0f, 0x1e, 0xfa})
	f.Add([]byte{0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, code []byte) {
		if in, err := decode(code); err == nil && (in.length < 1 && in.emulates == nil || in.length > maxInsn || in.length > len(code)) {
			t.Errorf("% x: length %d", code, in.length)
		}
	})
}
