// Package cpio writes archives in the "newc" format, which Linux unpacks as
// its initramfs (Documentation/driver-api/early-userspace/buffer-format.rst).
package cpio

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// File types of [Header.Mode], as in stat(2).
const (
	TypeMask = 0o170000
	Regular  = 0o100000
	Dir      = 0o040000
	Symlink  = 0o120000
	CharDev  = 0o020000
	BlockDev = 0o060000
	Fifo     = 0o010000
)

// ErrWrite reports misuse of a [Writer]: a bad name, more or less data than
// announced.
var ErrWrite = errors.New("cpio: bad write")

// Header describes one member. Owner and times are always zero, so that the
// same content gives the same archive.
type Header struct {
	// Name is relative to the root, without a leading slash.
	Name string
	// Mode is type and permissions; no type means [Regular].
	Mode uint32
	// Size is the content's length in bytes; a symlink's content is its target.
	Size int64
	// Major and Minor are a device's numbers.
	Major, Minor uint32
}

// Writer writes one archive. It is for one goroutine.
type Writer struct {
	w       io.Writer
	off     int64
	left    int64
	ino     uint32
	trailer bool
}

// NewWriter returns a writer on w. It does not close w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader begins the next member; exactly h.Size bytes must be written
// before the next one.
func (w *Writer) WriteHeader(h Header) error {
	if w.trailer {
		return fmt.Errorf("%w: archive is closed", ErrWrite)
	}
	if h.Name == "" || strings.HasPrefix(h.Name, "/") || path.Clean(h.Name) != h.Name || strings.HasPrefix(h.Name, "..") {
		return fmt.Errorf("%w: name %q", ErrWrite, h.Name)
	}
	if h.Size < 0 || h.Size > 0xffffffff {
		return fmt.Errorf("%w: %s: size %d does not fit the format", ErrWrite, h.Name, h.Size)
	}
	if h.Mode&TypeMask == 0 {
		h.Mode |= Regular
	}
	return w.header(h)
}

func (w *Writer) header(h Header) error {
	if w.left != 0 {
		return fmt.Errorf("%w: %d bytes missing before %s", ErrWrite, w.left, h.Name)
	}
	links := 1
	if h.Mode&TypeMask == Dir {
		links = 2
	}
	w.ino++
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	text := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		w.ino, h.Mode, 0, 0, links, 0, h.Size, 0, 0, h.Major, h.Minor, len(h.Name)+1, 0, h.Name)
	if err := w.raw([]byte(text)); err != nil {
		return err
	}
	if err := w.pad(4); err != nil {
		return err
	}
	w.left = h.Size
	return nil
}

// Write adds content to the member begun last.
func (w *Writer) Write(b []byte) (int, error) {
	if int64(len(b)) > w.left {
		return 0, fmt.Errorf("%w: %d bytes more than announced", ErrWrite, int64(len(b))-w.left)
	}
	if err := w.raw(b); err != nil {
		return 0, err
	}
	w.left -= int64(len(b))
	if w.left == 0 {
		return len(b), w.pad(4)
	}
	return len(b), nil
}

// Close writes the trailer. It does not close the underlying writer. A second
// call does nothing.
func (w *Writer) Close() error {
	if w.trailer {
		return nil
	}
	if err := w.header(Header{Name: "TRAILER!!!"}); err != nil {
		return err
	}
	w.trailer = true
	return w.pad(512)
}

func (w *Writer) raw(b []byte) error {
	n, err := w.w.Write(b)
	w.off += int64(n)
	if err != nil {
		return fmt.Errorf("cpio: %w", err)
	}
	return nil
}

func (w *Writer) pad(to int64) error {
	if rest := w.off % to; rest != 0 {
		return w.raw(make([]byte, to-rest))
	}
	return nil
}
