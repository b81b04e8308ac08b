package vmi

import (
	"fmt"
	"io"
	"iter"

	"github.com/govmi/govmi/xen"
)

// Image returns a [FrameMapper] over a raw memory image: byte n of r is the
// byte at guest-physical address n. A frame is copied when it is mapped, so
// later changes of r are seen only after [Memory.Invalidate].
func Image(r io.ReaderAt) FrameMapper { return image{r: r} }

// OpenImage opens a raw memory image of size bytes, a multiple of the page
// size; otherwise the error matches [ErrFormat].
func OpenImage(r io.ReaderAt, size int64) (Snapshot, error) {
	if size <= 0 || size%xen.PageSize != 0 {
		return nil, fmt.Errorf("%w: a raw image has whole pages of %d bytes, this file has %d bytes", ErrFormat, xen.PageSize, size)
	}
	return image{r, xen.GFN(size >> xen.PageShift)}, nil
}

type image struct {
	r   io.ReaderAt
	end xen.GFN
}

func (im image) Registers() []xen.Registers { return nil }

func (im image) GFNs() iter.Seq[xen.GFN] {
	return func(yield func(xen.GFN) bool) {
		for g := xen.GFN(0); g < im.end && yield(g); g++ {
		}
	}
}

func (im image) MapFrames(gfns []xen.GFN, writable bool) (Frames, error) {
	return copyFrames(gfns, writable, func(g xen.GFN) ([]byte, error) {
		if g >= 1<<(52-xen.PageShift) {
			return nil, ErrNotInFile
		}
		return readFrame(im.r, int64(g)<<xen.PageShift)
	})
}

// readFrame reads the frame at an offset of a file.
func readFrame(r io.ReaderAt, off int64) ([]byte, error) {
	p := make([]byte, xen.PageSize)
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == io.EOF {
			err = ErrNotInFile
		}
		return nil, err
	}
	return p, nil
}
