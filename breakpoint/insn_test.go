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
		{"a lone prefix", []byte{0xf3, 0x90}, 0},
		{"cut short", []byte{0x48}, 0},
		{"nothing", nil, 0},
	} {
		got, idle, err := instruction(tc.code)
		if got != tc.want || (err == nil) != (tc.want > 0) {
			t.Errorf("%s: length %d, error %v; want length %d", tc.name, got, err, tc.want)
		}
		if idle != (tc.name == "endbr64" || tc.name == "ftrace nop") {
			t.Errorf("%s does nothing: %v", tc.name, idle)
		}
		if err != nil && !errors.Is(err, ErrInstruction) {
			t.Errorf("%s: error %v is no ErrInstruction", tc.name, err)
		}
	}
}

func FuzzInstruction(f *testing.F) {
	f.Add([]byte{0xf3, 0x0f, 0x1e, 0xfa})
	f.Add([]byte{0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, code []byte) {
		if n, _, err := instruction(code); err == nil && (n < 1 || n > maxInsn || n > len(code)) {
			t.Errorf("% x: length %d", code, n)
		}
	})
}
