package main

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// textsum prints "textsum begin=ADDR end=ADDR sha256=HEX" of the kernel's text
// as it is in memory, _stext to _etext. With -at it prints bytes instead:
// "bytes at=ADDR HEX".
func textsum(args []string) (err error) {
	fs := flag.NewFlagSet("textsum", flag.ContinueOnError)
	at := fs.String("at", "", "print bytes at this symbol or hex address instead")
	length := fs.Int("len", 16, "how many bytes with -at")
	if err := fs.Parse(args); err != nil {
		return err
	}
	f, err := elf.Open("/proc/kcore")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if *at != "" {
		return printBytes(f, *at, *length)
	}
	symbols, err := addresses("_stext", "_etext")
	if err != nil {
		return err
	}
	begin, end := symbols["_stext"], symbols["_etext"]
	sum := sha256.New()
	if err := readKernel(f, sum, begin, end-begin); err != nil {
		return err
	}
	fmt.Printf("textsum begin=%x end=%x sha256=%x\n", begin, end, sum.Sum(nil))
	return nil
}

func printBytes(f *elf.File, at string, length int) error {
	addr, err := strconv.ParseUint(at, 16, 64)
	if err != nil {
		symbols, err := addresses(at)
		if err != nil {
			return err
		}
		addr = symbols[at]
	}
	var b strings.Builder
	if err := readKernel(f, &b, addr, uint64(length)); err != nil {
		return err
	}
	fmt.Printf("bytes at=%x %s\n", addr, hex.EncodeToString([]byte(b.String())))
	return nil
}

func readKernel(f *elf.File, w io.Writer, addr, length uint64) error {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr+length <= p.Vaddr+p.Memsz {
			_, err := io.Copy(w, io.NewSectionReader(p, int64(addr-p.Vaddr), int64(length)))
			return err
		}
	}
	return fmt.Errorf("/proc/kcore does not hold %x..%x", addr, addr+length)
}

func addresses(names ...string) (map[string]uint64, error) {
	text, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	want := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		for _, name := range names {
			if len(f) == 3 && f[2] == name {
				if want[name], err = strconv.ParseUint(f[0], 16, 64); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, name := range names {
		if want[name] == 0 {
			return nil, fmt.Errorf("no address of %s in /proc/kallsyms", name)
		}
	}
	return want, nil
}
