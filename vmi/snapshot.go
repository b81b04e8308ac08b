package vmi

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/govmi/govmi/xen"
)

// Snapshot is a guest as it was at one moment, kept in a file: its frames and
// its vCPUs' registers. It reads the file while it is used, which the caller
// closes afterwards. All methods are safe for concurrent use if the file's
// ReadAt is.
type Snapshot interface {
	FrameMapper
	// Registers returns what the file has of the vCPUs' registers. A raw image
	// has none.
	Registers() []xen.Registers
	// GFNs yields the frames that the file has, in ascending order.
	GFNs() iter.Seq[xen.GFN]
}

var (
	// ErrFormat says that a file is not what it was opened as, or is damaged.
	ErrFormat = errors.New("not a usable memory image")
	// ErrNotInFile says that a snapshot lacks a frame.
	ErrNotInFile = errors.New("the file does not have this frame")

	errReadOnly = errors.New("a file's frames cannot be mapped for writing")
)

// OpenSnapshot opens a file of size bytes: a recording or a Xen core dump if it
// begins like one, otherwise a raw image. The error matches [ErrFormat] if the
// file is damaged or of another kind.
func OpenSnapshot(r io.ReaderAt, size int64) (Snapshot, error) {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	switch string(magic[:]) {
	case "PK\x03\x04":
		return OpenRecording(r, size)
	case "\x7fELF":
		return OpenCoreDump(r, size)
	}
	return OpenImage(r, size)
}

// copiedFrames are frames copied out of a file.
type copiedFrames struct {
	data [][]byte
	errs []error
}

// copyFrames gathers frames one by one.
func copyFrames(gfns []xen.GFN, writable bool, read func(xen.GFN) ([]byte, error)) (Frames, error) {
	if writable {
		return nil, errReadOnly
	}
	f := &copiedFrames{make([][]byte, len(gfns)), make([]error, len(gfns))}
	for i, g := range gfns {
		f.data[i], f.errs[i] = read(g)
	}
	return f, nil
}

func (f *copiedFrames) Len() int                    { return len(f.data) }
func (f *copiedFrames) Frame(i int) ([]byte, error) { return f.data[i], f.errs[i] }
func (f *copiedFrames) Close() error                { return nil }
