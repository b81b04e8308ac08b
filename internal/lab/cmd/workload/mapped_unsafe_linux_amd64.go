package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"unsafe" // the address of the code

	"golang.org/x/sys/unix"
)

// The library that mapped makes has one function, in its second page.
const (
	mappedName    = "mapped_function"
	mappedCode    = 0x1040
	mappedWritten = 0x1800 // a byte that nobody needs
	mappedTable   = 0x2000
	mappedSize    = 0x3000
)

// mappedText is the function: lea rax, [rax+2*rax+7]; ret.
var mappedText = []byte{0x48, 0x8d, 0x44, 0x40, 7, 0xc3}

// mappedFile is the library.
func mappedFile() ([]byte, error) {
	names := "\x00" + mappedName + "\x00"
	const header, segment, section, symbol = 64, 56, 64, 24
	const stringsAt, sectionsAt = mappedTable + 0x100, mappedTable + 0x200
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: header, Phentsize: segment, Phnum: 1,
		Shoff: sectionsAt, Shentsize: section, Shnum: 3, Ehsize: header,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	b := make([]byte, mappedSize)
	copy(b[mappedCode:], mappedText)
	copy(b[stringsAt:], names)
	var errs []error
	for at, v := range map[int]any{
		0:      h,
		header: elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: mappedSize, Memsz: mappedSize},
		mappedTable: []elf.Sym64{{}, {
			Name: 1, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1, Value: mappedCode, Size: uint64(len(mappedText)),
		}},
		sectionsAt: []elf.Section64{{},
			{Type: uint32(elf.SHT_SYMTAB), Off: mappedTable, Size: 2 * symbol, Link: 2},
			{Type: uint32(elf.SHT_STRTAB), Off: stringsAt, Size: uint64(len(names))},
		},
	} {
		_, err := binary.Encode(b[at:], binary.LittleEndian, v)
		errs = append(errs, err)
	}
	return b, errors.Join(errs...)
}

// mapping is the library in this process.
type mapping struct {
	text, want []byte
	x          uint64
	// Calls that returned something else, and looks at code that was another.
	calls, wrong, changed int
}

func (m *mapping) open(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	m.text, err = unix.Mmap(int(f.Fd()), 0, mappedSize, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	return os.NewSyscallError("mmap", err)
}

// call calls the function n times, and looks at its page.
func (m *mapping) call(n int) {
	fn := uintptr(unsafe.Pointer(&m.text[mappedCode]))
	for range n {
		got, bad := callStub(fn, m.x)
		if m.x = 3*m.x + 7; got != m.x || bad != 0 {
			m.wrong++
		}
	}
	m.calls += n
	const page = mappedCode &^ 0xfff
	if !bytes.Equal(m.text[page:page+0x1000], m.want[page:page+0x1000]) {
		m.changed++
	}
}

// write makes the function's page the process's own.
func (m *mapping) write() error {
	if err := unix.Mprotect(m.text, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return os.NewSyscallError("mprotect", err)
	}
	m.text[mappedWritten]++
	m.want[mappedWritten] = m.text[mappedWritten]
	return os.NewSyscallError("mprotect", unix.Mprotect(m.text, unix.PROT_READ|unix.PROT_EXEC))
}

// mapped makes a library, maps it, prints "mapped ready pid=P" and calls its function
// n times: as it is in the file, then, after a child has done the same, in a page of
// its own, then mapped elsewhere, and there in a page of its own. It prints "mapped
// calls=N pid=P wrong=W text=T", of the child as well: how many calls returned
// something else or changed a register, and how often the page read otherwise than
// it was written, of one look at it after every n calls.
func mapped(args []string) error {
	fs := flag.NewFlagSet("mapped", flag.ContinueOnError)
	n := fs.Int("n", 100, "calls at each stage")
	name := fs.String("file", "/tmp/libmapped.so", "the library")
	child := fs.Bool("child", false, "call the function of a library that is there, and end")
	wait := fs.String("wait", "", "before the first call, wait for this file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	want, err := mappedFile()
	if err != nil {
		return err
	}
	if !*child {
		_ = os.Remove(*name) // it may not be there
		if err := os.WriteFile(*name, want, 0o755); err != nil {
			return err
		}
	}
	m := mapping{want: want, x: 1}
	if err := m.open(*name); err != nil {
		return err
	}
	runtime.LockOSThread()
	fmt.Printf("mapped ready pid=%d\n", os.Getpid())
	if err := waitFor(*wait); err != nil {
		return err
	}
	m.call(*n)
	if !*child {
		if err := m.stages(*n, *name); err != nil {
			return err
		}
	}
	fmt.Printf("mapped calls=%d pid=%d wrong=%d text=%d\n", m.calls, os.Getpid(), m.wrong, m.changed)
	return unix.Munmap(m.text)
}

func (m *mapping) stages(n int, name string) error {
	out, err := exec.Command("/proc/self/exe", "mapped", "-child", "-n", fmt.Sprint(n), "-file", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("child: %w: %s", err, out)
	}
	fmt.Print(strings.TrimPrefix(string(out), "mapped ready"))
	if err := m.write(); err != nil {
		return err
	}
	m.call(n)
	if err := unix.Munmap(m.text); err != nil {
		return os.NewSyscallError("munmap", err)
	}
	// The kernel would take the same place again.
	room, err := unix.Mmap(-1, 0, mappedSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	before := &m.text[0]
	if err := m.open(name); err != nil {
		return err
	}
	if before == &m.text[0] {
		return errors.New("mapped at the same address again")
	}
	m.want[mappedWritten] = 0
	m.call(n)
	if err := m.write(); err != nil {
		return err
	}
	m.call(n)
	return unix.Munmap(room)
}
