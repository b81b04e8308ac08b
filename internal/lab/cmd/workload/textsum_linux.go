package main

import (
	"bufio"
	"debug/elf"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

// textsum prints "textsum begin=ADDR end=ADDR crc32c=HEX" of the kernel's text
// as it is in memory, _stext to _etext: a checksum for which the processors have
// an instruction, as tests ask for it often. With -at it prints bytes instead,
// "bytes at=ADDR HEX" for each place.
func textsum(args []string) (err error) {
	fs := flag.NewFlagSet("textsum", flag.ContinueOnError)
	at := fs.String("at", "", "print bytes at these symbols or at this hex address instead, separated by commas")
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
	begin, end, err := text()
	if err != nil {
		return err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if err := readKernel(f, sum, begin, end-begin); err != nil {
		return err
	}
	fmt.Printf("textsum begin=%x end=%x crc32c=%08x\n", begin, end, sum.Sum32())
	return nil
}

func printBytes(f *elf.File, at string, length int) error {
	places := strings.Split(at, ",")
	found := map[string]uint64{}
	addr, err := strconv.ParseUint(at, 16, 64)
	if err == nil {
		found[at] = addr
	} else if found, err = addresses(places...); err != nil {
		return err
	}
	for _, place := range places {
		var b strings.Builder
		if err := readKernel(f, &b, found[place], uint64(length)); err != nil {
			return err
		}
		fmt.Printf("bytes at=%x %s\n", found[place], hex.EncodeToString([]byte(b.String())))
	}
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

// addresses looks symbols up. /proc/kallsyms takes seconds under an emulator, and
// is read no further than to the last of them.
func addresses(names ...string) (_ map[string]uint64, err error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	found := map[string]uint64{}
	for lines := bufio.NewScanner(f); len(found) < len(names) && lines.Scan(); {
		addr, rest, _ := strings.Cut(lines.Text(), " ")
		for _, name := range names {
			if len(rest) < 2 || rest[2:] != name {
				continue
			}
			if found[name], err = strconv.ParseUint(addr, 16, 64); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range names {
		if found[name] == 0 {
			return nil, fmt.Errorf("no address of %s in /proc/kallsyms", name)
		}
	}
	return found, nil
}

// text returns where the kernel's text is: it stays where it is until the next
// boot, and is kept in a file for the next time.
func text() (begin, end uint64, err error) {
	const kept = "/tmp/.workload.text"
	if b, err := os.ReadFile(kept); err == nil {
		if n, _ := fmt.Sscan(string(b), &begin, &end); n == 2 {
			return begin, end, nil
		}
	}
	symbols, err := addresses("_stext", "_etext")
	if err != nil {
		return 0, 0, err
	}
	begin, end = symbols["_stext"], symbols["_etext"]
	return begin, end, os.WriteFile(kept, fmt.Append(nil, begin, end), 0o600)
}
