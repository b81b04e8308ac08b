package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
)

// kallsyms prints "@kallsyms begin format=F count=N", base64 lines and
// "@kallsyms end". The format is gzip (of "ADDR TYPE NAME [MODULE]" lines as
// the kernel prints them) or hash: the sorted 64-bit FNV-1a hashes, big endian,
// of "ADDR NAME" with the address as 16 hex digits, modules' symbols left out.
func kallsyms(args []string) error {
	fs := flag.NewFlagSet("kallsyms", flag.ContinueOnError)
	hash := fs.Bool("hash", false, "sorted hashes instead of the compressed list")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return err
	}
	var data []byte
	format, count := "gzip", bytes.Count(text, []byte("\n"))
	if *hash {
		var sums []uint64
		if sums, err = hashSymbols(string(text)); err != nil {
			return err
		}
		for _, sum := range sums {
			data = binary.BigEndian.AppendUint64(data, sum)
		}
		format, count = "hash", len(sums)
	} else {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		if _, err := w.Write(text); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		data = buf.Bytes()
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "@kallsyms begin format=%s count=%d\n", format, count)
	const width = 57 * 16 // bytes in a line, a multiple of three
	for part := range slices.Chunk(data, width) {
		out.WriteString(base64.StdEncoding.EncodeToString(part) + "\n")
	}
	out.WriteString("@kallsyms end\n")
	_, err = os.Stdout.Write(out.Bytes())
	return err
}

func hashSymbols(text string) ([]uint64, error) {
	var sums []uint64
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 4 {
			continue // a module's
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("kallsyms: %q", line)
		}
		h := fnv.New64a()
		if _, err := h.Write([]byte(f[0] + " " + f[2])); err != nil {
			return nil, err
		}
		sums = append(sums, h.Sum64())
	}
	slices.Sort(sums)
	return sums, nil
}
