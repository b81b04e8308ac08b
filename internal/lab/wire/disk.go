package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Role is what a disk of dom0 is for; the agent finds disks by it, not by
// their device names.
type Role string

// The lab's disks.
const (
	// RoleJob carries one job's tar from the host to dom0, written by the
	// host while dom0 runs, before the job's Run frame.
	RoleJob Role = "job"
	// RoleResult carries one job's result tar back, written by the agent
	// before the Done frame.
	RoleResult Role = "result"
	// RoleKit carries a file system image that never changes while dom0 runs;
	// the agent mounts it on /lab at boot.
	RoleKit Role = "kit"
)

// DiskSectorSize is the alignment in bytes of every access to a disk.
const DiskSectorSize = 512

// DiskDataOffset is where the content begins, in bytes; sector 0 holds the
// [DiskHeader] and the rest up to here is zero.
const DiskDataOffset = 4096

const diskMagic = "govmi-lab-disk1\n"

// ErrNotLabDisk reports a sector that holds no [DiskHeader].
var ErrNotLabDisk = errors.New("wire: not a disk of the lab")

// DiskHeader is sector 0 of a disk, little endian: magic (16 bytes), role
// (16, zero-padded), length (8), SHA-256 (32), CRC-32 of all that (4), zeros.
// Length and SHA256 describe the content of a kit disk; for job and result disks
// they are zero, the frames [Run] and [Done] say it.
type DiskHeader struct {
	Role   Role
	Length int64
	SHA256 [sha256.Size]byte
}

// MarshalBinary returns the header as one sector.
func (h DiskHeader) MarshalBinary() ([]byte, error) {
	if len(h.Role) > 16 {
		return nil, fmt.Errorf("wire: disk role %q is longer than 16 bytes", h.Role)
	}
	b := make([]byte, DiskSectorSize)
	copy(b, diskMagic)
	copy(b[16:32], h.Role)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Length))
	copy(b[40:72], h.SHA256[:])
	binary.LittleEndian.PutUint32(b[72:], crc32.ChecksumIEEE(b[:72]))
	return b, nil
}

// UnmarshalBinary reads the header from the start of a disk; the error wraps
// [ErrNotLabDisk] if there is none.
func (h *DiskHeader) UnmarshalBinary(b []byte) error {
	if len(b) < 76 || string(b[:16]) != diskMagic {
		return ErrNotLabDisk
	}
	if binary.LittleEndian.Uint32(b[72:]) != crc32.ChecksumIEEE(b[:72]) {
		return fmt.Errorf("%w: header checksum is wrong", ErrNotLabDisk)
	}
	length := int64(binary.LittleEndian.Uint64(b[32:]))
	if length < 0 {
		return fmt.Errorf("%w: negative length", ErrNotLabDisk)
	}
	h.Role = Role(bytes.TrimRight(b[16:32], "\x00"))
	h.Length = length
	copy(h.SHA256[:], b[40:72])
	return nil
}
