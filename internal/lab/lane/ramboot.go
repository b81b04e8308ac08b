package lane

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Bochs has no loader for kernels, and one that the BIOS starts from an emulated disk takes longer than Xen takes to boot. Here the files lie
// in the machine's memory from the beginning, and a ROM extension starts Xen in place of the BIOS's own boot procedure, in the way that the
// Multiboot specification (version 0.6.96) asks for.

// ramImage is a file that Bochs loads to a physical address.
type ramImage struct {
	file string
	addr uint32
}

const (
	romAddr    = 0xd0000
	infoAddr   = 112 << 20 // Xen itself lies below
	smallAddr  = infoAddr + 64<<10
	moduleAddr = 128 << 20
	pageSize   = 4096
)

// ramBoot writes the machine's initial memory and its ROM extension to s.Dir.
func ramBoot(s *Spec) (rom string, images []ramImage, err error) {
	xen, entry, err := loadXen(s)
	if err != nil {
		return "", nil, err
	}
	images = append(images, xen)
	next := uint32(moduleAddr)
	var mods []module
	for _, m := range []struct{ file, args string }{{s.Kernel, "kernel " + strings.Join(s.kernelArgs(), " ")}, {s.Initrd, "initrd"}} {
		fi, err := os.Stat(m.file)
		if err != nil {
			return "", nil, err
		}
		if fi.Size() == 0 || int64(next)+fi.Size() > int64(s.MemoryMiB)<<20 {
			return "", nil, fmt.Errorf("%s: %d bytes do not fit into memory", m.file, fi.Size())
		}
		end := next + uint32(fi.Size())
		mods = append(mods, module{next, end, m.args})
		images = append(images, ramImage{m.file, next})
		next = (end + pageSize - 1) &^ (pageSize - 1)
	}
	// Bochs loads four files at most: further modules lie in the last one.
	var small []byte
	for _, file := range s.Modules {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", nil, err
		}
		if len(b) == 0 {
			return "", nil, fmt.Errorf("%s is empty", file)
		}
		start := smallAddr + uint32(len(small))
		mods = append(mods, module{start, start + uint32(len(b)), "module"})
		small = append(small, b...)
		small = append(small, make([]byte, -len(b)&(pageSize-1))...)
	}
	info := ramImage{filepath.Join(s.Dir, "multiboot.ram"), infoAddr}
	// The first word of a command line is the loader's name for the image.
	b := multibootInfo("xen "+strings.Join(s.xenArgs(), " "), mods, s.MemoryMiB)
	if len(b) > smallAddr-infoAddr || len(small) > moduleAddr-smallAddr {
		return "", nil, fmt.Errorf("%d bytes of boot information and %d of modules do not fit below the kernel", len(b), len(small))
	}
	if len(small) > 0 {
		b = append(append(b, make([]byte, smallAddr-infoAddr-len(b))...), small...)
	}
	if err := os.WriteFile(info.file, b, 0o644); err != nil {
		return "", nil, err
	}
	rom = filepath.Join(s.Dir, "boot.rom")
	return rom, append(images, info), os.WriteFile(rom, bootROM(entry), 0o644)
}

// loadXen lays Xen's only segment out as it is to be in memory.
func loadXen(s *Spec) (img ramImage, entry uint32, err error) {
	file := filepath.Join(s.Dir, "xen")
	if err := gunzip(file, s.Xen); err != nil {
		return img, 0, err
	}
	f, err := elf.Open(file)
	if err != nil {
		return img, 0, fmt.Errorf("%s: %w", s.Xen, err)
	}
	defer f.Close()
	var load []*elf.Prog
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			load = append(load, p)
		}
	}
	if len(load) != 1 || load[0].Paddr >= infoAddr || load[0].Memsz > infoAddr-load[0].Paddr || f.Entry >= infoAddr {
		return img, 0, fmt.Errorf("%s: not the multiboot image of a Xen", s.Xen)
	}
	img = ramImage{filepath.Join(s.Dir, "xen.ram"), uint32(load[0].Paddr)}
	out, err := os.Create(img.file)
	if err != nil {
		return img, 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, load[0].Open()); err != nil {
		return img, 0, fmt.Errorf("%s: %w", s.Xen, err)
	}
	return img, uint32(f.Entry), out.Truncate(int64(load[0].Memsz))
}

// module is a boot module at [start, end) in physical memory.
type module struct {
	start, end uint32
	args       string
}

// multibootInfo returns the boot information structure (section 3.3) for infoAddr. There is no memory map in it: Xen asks the BIOS.
func multibootInfo(args string, mods []module, memoryMiB int) []byte {
	const (
		haveMemory  = 1 << 0
		haveCmdline = 1 << 2
		haveModules = 1 << 3

		infoSize   = 52 // up to and with the memory map's fields
		moduleSize = 16
	)
	strs := uint32(infoAddr + infoSize + moduleSize*len(mods))
	var text bytes.Buffer
	str := func(s string) uint32 {
		at := strs + uint32(text.Len())
		text.WriteString(s + "\x00")
		return at
	}
	info := make([]uint32, infoSize/4)
	info[0] = haveMemory | haveCmdline | haveModules
	info[1] = 640                            // KiB from 0
	info[2] = uint32(memoryMiB-1) * 1024     // KiB from 1 MiB
	info[4] = str(args)                      // command line
	info[5] = uint32(len(mods))              // number of modules
	info[6] = infoAddr + uint32(len(info))*4 // their list
	for _, m := range mods {
		info = append(info, m.start, m.end, str(m.args), 0)
	}
	var b bytes.Buffer
	for _, v := range info {
		b.Write(binary.LittleEndian.AppendUint32(nil, v))
	}
	b.Write(text.Bytes())
	return b.Bytes()
}

// bootROM returns an option ROM for romAddr that takes over the BIOS's boot interrupt, and then enters Xen in protected mode.
func bootROM(entry uint32) []byte {
	const (
		size     = 2048
		bootAt   = 0x20
		pmAt     = 0x40
		gdtAt    = 0x80
		gdtrAt   = 0xa0
		codeSeg  = 0x08
		dataSeg  = 0x10
		magicEAX = 0x2badb002
	)
	rom := make([]byte, size)
	put := func(at int, code ...byte) { copy(rom[at:], code) }
	u16 := binary.LittleEndian.AppendUint16
	u32 := binary.LittleEndian.AppendUint32
	put(0, 0x55, 0xaa, size/512)
	// Called by the BIOS while it starts: let int 0x19 point to bootAt.
	put(3,
		0x1e,       // push ds
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xc7, 0x06, 0x64, 0x00, bootAt, 0x00, // mov word [0x64], bootAt
		0xc7, 0x06, 0x66, 0x00, 0x00, romAddr>>4>>8, // mov word [0x66], romAddr >> 4
		0x1f, // pop ds
		0xcb, // retf
	)
	code := []byte{
		0xfa,       // cli
		0xe4, 0x92, // in al, 0x92
		0x0c, 0x02, // or al, 2: A20 on
		0xe6, 0x92, // out 0x92, al
		0x2e, 0x66, 0x0f, 0x01, 0x16, gdtrAt, 0x00, // lgdt cs:[gdtrAt]
		0x0f, 0x20, 0xc0, // mov eax, cr0
		0x0c, 0x01, // or al, 1: protected mode
		0x0f, 0x22, 0xc0, // mov cr0, eax
		0x66, 0xea, // jmp codeSeg:pmAt
	}
	put(bootAt, u16(u32(code, romAddr+pmAt), codeSeg)...)
	code = []byte{
		0x66, 0xb8, dataSeg, 0x00, // mov ax, dataSeg
		0x8e, 0xd8, // mov ds, ax
		0x8e, 0xc0, // mov es, ax
		0x8e, 0xe0, // mov fs, ax
		0x8e, 0xe8, // mov gs, ax
		0x8e, 0xd0, // mov ss, ax
	}
	code = u32(append(code, 0xb8), magicEAX) // mov eax, magic
	code = u32(append(code, 0xbb), infoAddr) // mov ebx, infoAddr
	code = u32(append(code, 0xb9), entry)    // mov ecx, entry
	code = append(code, 0xff, 0xe1)          // jmp ecx
	put(pmAt, code...)
	put(gdtAt+codeSeg, 0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0) // flat 4 GiB, code
	put(gdtAt+dataSeg, 0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0) // flat 4 GiB, data
	put(gdtrAt, u32(u16(nil, 3*8-1), romAddr+gdtAt)...)
	var sum byte
	for _, b := range rom {
		sum += b
	}
	rom[size-1] = -sum
	return rom
}
