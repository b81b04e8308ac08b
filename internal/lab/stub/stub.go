// Package stub makes the smallest of guests: a PVH kernel of some bytes of
// machine code, which needs next to no memory.
package stub

import (
	"bytes"
	"encoding/binary"
)

// MemoryMiB is enough for a stub's domain.
const MemoryMiB = 8

// CPUIDs is how often the code of [Kernel] executes CPUID.
const CPUIDs = 10

// code is executed in 32-bit protected mode without paging. It waits for an
// interrupt, of which there is none, as soon as it is done: a vCPU that halts
// with interrupts off would end its domain.
var code = []byte{
	0xbe, CPUIDs, 0, 0, 0, // mov $CPUIDs, %esi
	0x31, 0xc0, // 1: xor %eax, %eax
	0x0f, 0xa2, // cpuid
	0x4e,       // dec %esi
	0x75, 0xf9, // jne 1b
	0xfb,       // sti
	0xf4,       // 2: hlt
	0xeb, 0xfd, // jmp 2b
}

// Addresses in the guest.
const (
	loadAddr  = 0x100000
	elfHeader = 52
	progSize  = 32
	noteSize  = 12 + 4 + 4 // header, "Xen\0", a word
)

// Kernel returns the kernel, an ELF file for Xen's toolstack.
func Kernel() []byte {
	const (
		progs       = 2
		noteOff     = elfHeader + progs*progSize
		codeOff     = noteOff + noteSize
		machine386  = 3
		executable  = 2
		ptLoad      = 1
		ptNote      = 4
		readExecute = 5
		phys32Entry = 18 // XEN_ELFNOTE_PHYS32_ENTRY
	)
	size := uint32(codeOff + len(code))
	entry := uint32(loadAddr + codeOff)
	var b bytes.Buffer
	put := func(v ...any) {
		for _, x := range v {
			if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
				panic(err) // of a type without a size
			}
		}
	}
	put([]byte("\x7fELF\x01\x01\x01\x00"), [8]byte{}, // 32 bits, little-endian
		uint16(executable), uint16(machine386), uint32(1), entry, uint32(elfHeader), uint32(0), uint32(0),
		uint16(elfHeader), uint16(progSize), uint16(progs), uint16(0), uint16(0), uint16(0))
	put(uint32(ptLoad), uint32(0), uint32(loadAddr), uint32(loadAddr), size, size, uint32(readExecute), uint32(0x1000))
	put(uint32(ptNote), uint32(noteOff), uint32(loadAddr+noteOff), uint32(loadAddr+noteOff), uint32(noteSize), uint32(noteSize), uint32(readExecute), uint32(4))
	put(uint32(4), uint32(4), uint32(phys32Entry), []byte("Xen\x00"), entry)
	put(code)
	return b.Bytes()
}
