package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/debian"
)

var errNotBzImage = errors.New("not a bzImage")

// expandKernel returns the ELF file within a bzImage of a package, in the cache. Decompression is the slowest part of a kernel's start in an
// emulator; here it is done once. A compression that is not known leaves the bzImage as it is, which boots as well.
func expandKernel(ctx context.Context, cacheDir string, p debian.Package, bzImage string) (string, error) {
	image, err := os.ReadFile(bzImage)
	if err != nil {
		return "", err
	}
	payload, err := bzImagePayload(image)
	if err != nil {
		return "", fmt.Errorf("%s: %w", bzImage, err)
	}
	expand := expander(payload)
	if expand == nil {
		return bzImage, nil
	}
	path := filepath.Join(cacheDir, "kernel", filepath.Base(p.Dir)+".elf")
	return cache.Build(ctx, path, func(tmp string) error {
		return writeFile(tmp, func(f *os.File) error { return expand(ctx, cacheDir, f, payload) })
	})
}

// bzImagePayload returns the compressed kernel, by the fields of the x86 boot protocol 2.08 and later.
func bzImagePayload(b []byte) ([]byte, error) {
	const setupSects, magic, version, payloadOffset, payloadLength = 0x1f1, 0x202, 0x206, 0x248, 0x24c
	if len(b) < 0x250 || string(b[magic:magic+4]) != "HdrS" || binary.LittleEndian.Uint16(b[version:]) < 0x208 {
		return nil, errNotBzImage
	}
	sects := uint64(b[setupSects])
	if sects == 0 {
		sects = 4
	}
	start := (sects+1)*512 + uint64(binary.LittleEndian.Uint32(b[payloadOffset:]))
	end := start + uint64(binary.LittleEndian.Uint32(b[payloadLength:]))
	if end > uint64(len(b)) || end-start < 8 {
		return nil, fmt.Errorf("%w: payload ends at %d of %d bytes", errNotBzImage, end, len(b))
	}
	return b[start : end-4], nil // the last word is the expanded size
}

type expandFunc func(ctx context.Context, cacheDir string, w io.Writer, payload []byte) error

func expander(payload []byte) expandFunc {
	switch {
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		return func(_ context.Context, _ string, w io.Writer, payload []byte) error {
			z, err := gzip.NewReader(bytes.NewReader(payload))
			if err != nil {
				return err
			}
			_, err = io.Copy(w, z)
			return err
		}
	case bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")):
		return expandWith("xz-utils", "/usr/bin/xz")
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return expandWith("zstd", "/usr/bin/zstd")
	}
	return nil
}

func expandWith(pkg, program string) expandFunc {
	return func(ctx context.Context, cacheDir string, w io.Writer, payload []byte) error {
		t, err := debian.Fetch(ctx, cacheDir, "bookworm", pkg+"+")
		if err != nil {
			return err
		}
		cmd, err := t.Command(ctx, program, "-d", "-c", "-q")
		if err != nil {
			return err
		}
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(payload), w, &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(stderr.Bytes()))
		}
		return nil
	}
}
