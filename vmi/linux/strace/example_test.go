package strace_test

import (
	"io"
	"os"
	"time"

	"github.com/govmi/govmi/vmi/linux/strace"
)

// oneString is a process whose memory holds a string at 0x1000.
type oneString string

func (s oneString) Read(addr uint64, p []byte) (int, error) {
	clear(p)
	if addr < 0x1000 || addr+uint64(len(p)) > 0x2000 {
		return 0, io.ErrUnexpectedEOF
	}
	if off := int(addr - 0x1000); off < len(s) {
		copy(p, s[off:])
	}
	return len(p), nil
}

func Example() {
	d := strace.NewDecoder(nil) // the ABI's own numbers
	p := strace.NewPrinter(os.Stdout, nil)
	cat := strace.Thread{PID: 214, TID: 214, Comm: "cat"}
	mem := oneString("/etc/hostname")

	var c strace.Call
	atFDCWD := ^uint64(99) // -100
	d.Entry(&c, strace.Registers{Nr: 257, Args: [6]uint64{atFDCWD, 0x1000}}, mem)
	p.Enter(cat, &c, time.Now())
	d.Exit(&c, 3, mem)
	p.Leave(cat, &c, time.Now())
	if err := p.Flush(); err != nil {
		panic(err)
	}
	// Output: cat[214] openat(AT_FDCWD, "/etc/hostname", O_RDONLY) = 3
}
