package wire

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// WriteDisk writes a disk of the role to w: header, room, and the content of r from
// [DiskDataOffset] on, padded to whole sectors. r is read twice, first for the
// digest.
func WriteDisk(w io.WriterAt, role Role, r io.ReadSeeker) error {
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return fmt.Errorf("wire: %s disk: %w", role, err)
	}
	h := DiskHeader{Role: role, Length: n, SHA256: [sha256.Size]byte(sum.Sum(nil))}
	sector, err := h.MarshalBinary()
	if err != nil {
		return err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("wire: %s disk: %w", role, err)
	}
	out := io.NewOffsetWriter(w, 0)
	for _, part := range [][]byte{sector, make([]byte, DiskDataOffset-len(sector))} {
		if _, err := out.Write(part); err != nil {
			return fmt.Errorf("wire: %s disk: %w", role, err)
		}
	}
	if copied, err := io.Copy(out, r); err != nil {
		return fmt.Errorf("wire: %s disk: %w", role, err)
	} else if copied != n {
		return fmt.Errorf("wire: %s disk: the content changed from %d to %d bytes", role, n, copied)
	}
	if rest := n % DiskSectorSize; rest != 0 {
		if _, err := out.Write(make([]byte, DiskSectorSize-rest)); err != nil {
			return fmt.Errorf("wire: %s disk: %w", role, err)
		}
	}
	return nil
}
