package main

import (
	"testing"

	"github.com/govmi/govmi/xen"
)

func TestAfterCall(t *testing.T) {
	const base, callee = 0xffffffff81000000, 0xffffffff80fff000
	// nop; call to elsewhere; call back to callee; mov rcx, [rsp+0x58]
	code := []byte{0x90, 0xe8, 1, 2, 3, 4, 0xe8, 0xf5, 0xef, 0xff, 0xff, 0x48, 0x8b, 0x4c, 0x24, 0x58}
	if got := afterCall(code, base, callee); got != 11 {
		t.Errorf("offset %d, want 11", got)
	}
	if got := afterCall(code[:10], base, callee); got != -1 {
		t.Errorf("cut off: offset %d, want -1", got)
	}
}

func TestSavedRegs(t *testing.T) {
	const ptr = 0xffffc90000003f58
	for _, tt := range []struct {
		rdi, rsi uint64
		param    int
	}{
		{ptr, 39, 0}, {39, ptr, 1}, {ptr, 39, -1}, {39, ptr, -1},
	} {
		r := &xen.Registers{RDI: tt.rdi, RSI: tt.rsi}
		if got := savedRegs(r, tt.param); got != ptr {
			t.Errorf("%+v: %#x", tt, got)
		}
	}
}
