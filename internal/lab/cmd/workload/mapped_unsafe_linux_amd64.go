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
	"syscall"
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
//
//go:nosplit
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
//
//go:nosplit
func (m *mapping) write() syscall.Errno {
	if errno := m.protect(unix.PROT_READ | unix.PROT_WRITE); errno != 0 {
		return errno
	}
	m.text[mappedWritten]++
	m.want[mappedWritten] = m.text[mappedWritten]
	return m.protect(unix.PROT_READ | unix.PROT_EXEC)
}

//go:nosplit
func (m *mapping) protect(prot uintptr) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&m.text[0])), uintptr(len(m.text)), prot)
	return errno
}

// fork has a copy of this process, with the same mapping, call the function n times,
// before and after it has written to the page.
func (m *mapping) fork(n int) error {
	shared, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer unix.Munmap(shared)
	told := (*mapping)(unsafe.Pointer(&shared[0])) // its numbers
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("clone: %w", errno)
	}
	if pid == 0 {
		m.beCopy(n, told)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &ws, 0, nil); err != nil || !ws.Exited() || ws.ExitStatus() != 0 {
		return fmt.Errorf("the copy of the process ended with wait status %#x, %w", uint32(ws), err)
	}
	told.print(int(pid))
	return nil
}

// beCopy is what the copy does. It has but one of the Go runtime's threads, so that
// nothing may enter the scheduler, as a look at the stack's limit could.
//
//go:nosplit
func (m *mapping) beCopy(n int, told *mapping) {
	m.calls, m.wrong, m.changed = 0, 0, 0
	m.call(n)
	errno := m.write()
	m.call(n)
	told.calls, told.wrong, told.changed = m.calls, m.wrong, m.changed
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
	}
}

func (m *mapping) print(pid int) {
	fmt.Printf("mapped calls=%d pid=%d wrong=%d text=%d\n", m.calls, pid, m.wrong, m.changed)
}

// mapped makes a library, maps it, prints "mapped ready pid=P" and calls its function
// n times: as it is in the file, then, after a child has done the same, in a page of
// its own, then mapped elsewhere, and there in a page of its own, which a copy of the
// process has as well and calls it 2n times. At last it executes itself again, as
// the child does. Each prints "mapped calls=N pid=P wrong=W text=T": how many calls
// returned something else or changed a register, and how often the page read otherwise
// than it was written, of one look at it after every n calls.
func mapped(args []string) error {
	fs := flag.NewFlagSet("mapped", flag.ContinueOnError)
	n := fs.Int("n", 100, "calls at each stage")
	name := fs.String("file", "/tmp/libmapped.so", "the library")
	child := fs.Bool("child", false, "call the function of a library that is there, and end")
	x := fs.Uint64("x", 1, "the first call's argument")
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
	m := mapping{want: want, x: *x}
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
	m.print(os.Getpid())
	if *child {
		return unix.Munmap(m.text)
	}
	again := []string{"workload", "mapped", "-child", "-n", fmt.Sprint(*n), "-file", *name, "-x", fmt.Sprint(m.x)}
	return os.NewSyscallError("execve", unix.Exec("/proc/self/exe", again, os.Environ()))
}

func (m *mapping) stages(n int, name string) error {
	out, err := exec.Command("/proc/self/exe", "mapped", "-child", "-n", fmt.Sprint(n), "-file", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("child: %w: %s", err, out)
	}
	fmt.Print(strings.TrimPrefix(string(out), "mapped ready"))
	if errno := m.write(); errno != 0 {
		return os.NewSyscallError("mprotect", errno)
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
	if errno := m.write(); errno != 0 {
		return os.NewSyscallError("mprotect", errno)
	}
	m.call(n)
	if err := m.fork(n); err != nil {
		return err
	}
	return unix.Munmap(room)
}
