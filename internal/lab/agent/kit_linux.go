package agent

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
)

// UnpackKit unpacks the kit disk into dir.
func UnpackKit(disk *Disk, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	sum := sha256.New()
	r := io.TeeReader(bufio.NewReaderSize(io.NewSectionReader(disk, 0, disk.Header.Length), diskRead), sum)
	if err := Unpack(r, dir); err != nil {
		return fmt.Errorf("agent: kit disk: %w", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("agent: kit disk: %w", err)
	}
	if !bytes.Equal(sum.Sum(nil), disk.Header.SHA256[:]) {
		return fmt.Errorf("agent: kit disk: SHA-256 is %x, its header says %x", sum.Sum(nil), disk.Header.SHA256)
	}
	return nil
}
