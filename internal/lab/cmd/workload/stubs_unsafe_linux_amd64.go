package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"time"
	"unsafe" // the address of the code

	"golang.org/x/sys/unix"
)

func callStub(fn uintptr, x uint64) (ret, bad uint64)

const (
	stubPages   = 16
	stubsOfPage = 4
	stubOffset  = 0x40  // of the first in its page
	stubStride  = 0x400 // to the next
	maxStubs    = stubPages * stubsOfPage
	checkEvery  = 1024 // calls
)

// stubCode is function i and what it makes of its argument. They begin with a LEA, a
// XOR, a ROL or a PUSH; with sse all begin with a MOVQ to a vector register.
func stubCode(i int, sse bool) (code []byte, f func(x uint64) uint64) {
	c := uint32(i)*0x01010101&0x7fffffff | 1
	imm := binary.LittleEndian.AppendUint32(nil, c)
	switch {
	case sse: // movq xmm0, rax; paddq xmm0, xmm0; movq rax, xmm0; add rax, i
		return append([]byte{0x66, 0x48, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xd4, 0xc0, 0x66, 0x48, 0x0f, 0x7e, 0xc0, 0x48, 0x83, 0xc0, byte(i)}, 0xc3),
			func(x uint64) uint64 { return 2*x + uint64(i) }
	case i%4 == 0: // lea rax, [rax+2*rax+i]
		return []byte{0x48, 0x8d, 0x44, 0x40, byte(i), 0xc3}, func(x uint64) uint64 { return 3*x + uint64(i) }
	case i%4 == 1: // xor rax, c
		return append(append([]byte{0x48, 0x35}, imm...), 0xc3), func(x uint64) uint64 { return x ^ uint64(c) }
	case i%4 == 2: // rol rax, 7
		return []byte{0x48, 0xc1, 0xc0, 7, 0xc3}, func(x uint64) uint64 { return bits.RotateLeft64(x, 7) }
	}
	// push rax; add qword [rsp], c; pop rax
	return append(append([]byte{0x50, 0x48, 0x81, 0x04, 0x24}, imm...), 0x58, 0xc3), func(x uint64) uint64 { return x + uint64(c) }
}

// stubs calls small functions of its own, spread over 16 pages, in turn, and checks
// what they return and that they change no other register. It prints "stubs ready
// pid=P addrs=A,..." before waiting and at the end "stubs n=N pid=P wrong=W
// registers=R text=T us=U": how many calls returned something else, changed
// registers, how often the functions' code read otherwise than it was written, of
// looks at each of them after every 1024 calls, and the time of the calls without the
// looks in microseconds. With -whole it reads all of the pages once more at the end.
func stubs(args []string) error {
	fs := flag.NewFlagSet("stubs", flag.ContinueOnError)
	n := fs.Int("n", 10000, "calls in all")
	count := fs.Int("stubs", maxStubs, "functions")
	sse := fs.Bool("sse", false, "functions that begin with a vector instruction")
	looks := fs.Int("looks", 0, "at the end, read the first function so often, and print the time of that")
	whole := fs.Bool("whole", false, "read all the code at the end")
	wait := fs.String("wait", "", "before the first call, wait for this file, or for a line of input if it is -")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *count < 1 || *count > maxStubs || *n < 0 {
		return fmt.Errorf("stubs: 1 to %d of them", maxStubs)
	}
	runtime.LockOSThread()
	text, err := unix.Mmap(-1, 0, stubPages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	var at []int
	var fns []func(uint64) uint64
	line := fmt.Sprintf("stubs ready pid=%d addrs=", os.Getpid())
	base := uintptr(unsafe.Pointer(&text[0]))
	for i := range *count {
		// The first stubs are on different pages.
		off := i%stubPages*os.Getpagesize() + stubOffset + i/stubPages*stubStride
		code, f := stubCode(i, *sse)
		copy(text[off:], code)
		at, fns = append(at, off), append(fns, f)
		if i > 0 {
			line += ","
		}
		line += fmt.Sprintf("%x", base+uintptr(off))
	}
	if err := errors.Join(unix.Mprotect(text, unix.PROT_READ|unix.PROT_EXEC), unix.Mlock(text)); err != nil {
		return err
	}
	before := bytes.Clone(text)
	fmt.Println(line)
	if err := waitFor(*wait); err != nil {
		return err
	}
	x, wrong, registers, changed := uint64(1), 0, 0, 0
	look := func(from, to int) {
		for i := from; i < to; i += 8 {
			if *(*uint64)(unsafe.Pointer(&text[i])) != *(*uint64)(unsafe.Pointer(&before[i])) {
				changed++
			}
		}
	}
	var took time.Duration
	for i := 0; i < *n; {
		begin := time.Now()
		for end := min(*n, i+checkEvery); i < end; i++ {
			k := i % *count
			got, bad := callStub(base+uintptr(at[k]), x)
			if x = fns[k](x); got != x {
				wrong++
				x = got
			}
			if bad != 0 {
				registers++
			}
		}
		took += time.Since(begin)
		for _, off := range at {
			look(off, off+8)
		}
	}
	if *whole {
		look(0, len(text))
	}
	if *looks > 0 {
		begin := time.Now()
		for range *looks {
			look(at[0], at[0]+8)
		}
		fmt.Printf("looks n=%d us=%d\n", *looks, time.Since(begin).Microseconds())
	}
	fmt.Printf("stubs n=%d pid=%d wrong=%d registers=%d text=%d us=%d\n", *n, os.Getpid(), wrong, registers, changed, took.Microseconds())
	return unix.Munmap(text)
}

// physRead prints "phys at=ADDR HEX" for the first bytes of each page of physical
// memory that do not read as no memory does, and at the end "phys pages=N". With
// -write it first writes to each. The kernel lets root do so outside of its memory.
func physRead(args []string) (err error) {
	fs := flag.NewFlagSet("physread", flag.ContinueOnError)
	from := fs.Uint64("from", 0, "first frame number")
	n := fs.Int("n", 1, "frames")
	write := fs.Bool("write", false, "write before reading")
	if err := fs.Parse(args); err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/mem", os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size := os.Getpagesize()
	mem, err := unix.Mmap(int(f.Fd()), int64(*from)*int64(size), *n*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap /dev/mem", err)
	}
	for i := range *n {
		p := (*uint64)(unsafe.Pointer(&mem[i*size+stubOffset&^7]))
		if *write {
			*p = 0x0123456789abcdef
		}
		if v := *p; v != ^uint64(0) {
			fmt.Printf("phys at=%x %016x\n", *from*uint64(size)+uint64(i*size), v)
		}
	}
	fmt.Printf("phys pages=%d\n", *n)
	return unix.Munmap(mem)
}
