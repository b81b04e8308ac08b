package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/lab/wire"
)

const diskBuffer = 1 << 20

// Disk is a lab disk's content. It bypasses the page cache, because the host
// writes the job disk and reads the result disk while dom0 runs. It is for one
// goroutine.
type Disk struct {
	// Header is sector 0 as it was when the disk was opened.
	Header wire.DiskHeader

	name string
	f    *os.File
	buf  []byte // page aligned, as O_DIRECT wants it
	size int64
}

// FindDisks waits until disks of all roles are there. The kernel finds disks
// at its own pace and in its own order.
func FindDisks(ctx context.Context, roles ...wire.Role) (_ map[wire.Role]*Disk, err error) {
	found := map[wire.Role]*Disk{}
	defer func() {
		if err != nil {
			for _, d := range found {
				err = errors.Join(err, d.Close())
			}
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		names, err := filepath.Glob("/dev/[svh]d[a-z]")
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		for _, name := range names {
			d, err := openDisk(name)
			if errors.Is(err, wire.ErrNotLabDisk) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if found[d.Header.Role] != nil {
				if err := d.Close(); err != nil {
					return nil, err
				}
				continue
			}
			found[d.Header.Role] = d
		}
		missing := false
		for _, role := range roles {
			if found[role] == nil {
				missing = true
			}
		}
		if !missing {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("agent: %w: of the disks %v only %d of %v are the lab's", context.Cause(ctx), names, len(found), roles)
		case <-tick.C:
		}
	}
}

func openDisk(name string) (_ *Disk, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	d := &Disk{name: name, f: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.buf, err = unix.Mmap(-1, 0, diskBuffer, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("agent: buffer: %w", err)
	}
	if d.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("agent: %s: %w", name, err)
	}
	if d.size < wire.DiskDataOffset {
		return nil, fmt.Errorf("%w: %s has %d bytes", wire.ErrNotLabDisk, name, d.size)
	}
	if _, err := f.ReadAt(d.buf[:wire.DiskDataOffset], 0); err != nil {
		return nil, fmt.Errorf("agent: %s: %w", name, err)
	}
	if err := d.Header.UnmarshalBinary(d.buf); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// Size is the content's room in bytes.
func (d *Disk) Size() int64 { return d.size - wire.DiskDataOffset }

// ReadAt reads from the content.
func (d *Disk) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= d.Size() {
		return 0, io.EOF
	}
	total := 0
	for total < len(b) {
		start := (off + int64(total)) &^ (wire.DiskSectorSize - 1)
		skip := int(off + int64(total) - start)
		want := min((skip+len(b)-total+wire.DiskSectorSize-1)&^(wire.DiskSectorSize-1), len(d.buf))
		n, err := d.f.ReadAt(d.buf[:want], start+wire.DiskDataOffset)
		if n > skip {
			total += copy(b[total:], d.buf[skip:n])
		}
		if err != nil && total < len(b) {
			return total, err // io.EOF at the disk's end
		}
	}
	return total, nil
}

// WriteAt writes to the content; off must be a multiple of the sector size,
// and the last sector is padded with zeros.
func (d *Disk) WriteAt(b []byte, off int64) (int, error) {
	if off%wire.DiskSectorSize != 0 {
		return 0, fmt.Errorf("agent: write at %d is not aligned", off)
	}
	total := 0
	for total < len(b) {
		n := copy(d.buf, b[total:])
		padded := (n + wire.DiskSectorSize - 1) &^ (wire.DiskSectorSize - 1)
		clear(d.buf[n:padded])
		if _, err := d.f.WriteAt(d.buf[:padded], off+int64(total)+wire.DiskDataOffset); err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// Close is idempotent.
func (d *Disk) Close() error {
	var err error
	if d.buf != nil {
		err = unix.Munmap(d.buf)
		d.buf = nil
	}
	if d.f == nil {
		return err
	}
	err = errors.Join(err, d.f.Close())
	d.f = nil
	return err
}
