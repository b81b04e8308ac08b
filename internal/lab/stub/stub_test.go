package stub

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

func TestKernel(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(Kernel()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != elf.EM_386 || f.Class != elf.ELFCLASS32 || len(f.Progs) != 2 {
		t.Fatalf("%+v", f)
	}
	load, note := f.Progs[0], f.Progs[1]
	if load.Type != elf.PT_LOAD || load.Paddr != loadAddr || load.Filesz != load.Memsz {
		t.Errorf("%+v", load.ProgHeader)
	}
	b, err := io.ReadAll(note.Open())
	if err != nil || note.Type != elf.PT_NOTE || len(b) != noteSize {
		t.Fatalf("%+v, %v", note.ProgHeader, err)
	}
	entry := binary.LittleEndian.Uint32(b[16:])
	if string(b[12:16]) != "Xen\x00" || binary.LittleEndian.Uint32(b[8:]) != 18 || uint64(entry) != f.Entry {
		t.Errorf("note %x, entry %#x", b, f.Entry)
	}
	if b, err = io.ReadAll(load.Open()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b[entry-loadAddr:], code) {
		t.Errorf("at the entry: %x", b[entry-loadAddr:])
	}
}

// The jumps lead to where the comments say.
func TestCode(t *testing.T) {
	var ops []x86asm.Op
	at := map[int]x86asm.Op{}
	for off := 0; off < len(code); {
		i, err := x86asm.Decode(code[off:], 32)
		if err != nil {
			t.Fatalf("at %d: %v", off, err)
		}
		at[off] = i.Op
		ops = append(ops, i.Op)
		if rel, ok := i.Args[0].(x86asm.Rel); ok {
			want := x86asm.XOR
			if i.Op == x86asm.JMP {
				want = x86asm.HLT
			}
			if got := at[off+i.Len+int(rel)]; got != want {
				t.Errorf("%v at %d leads to %v, want %v", i.Op, off, got, want)
			}
		}
		off += i.Len
	}
	if len(ops) != 8 || ops[2] != x86asm.CPUID {
		t.Errorf("%v", ops)
	}
}
