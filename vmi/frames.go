package vmi

import (
	"errors"
	"io"

	"github.com/govmi/govmi/xen"
)

// FrameMapper gives access to guest frames. A live domain, a memory image and
// a fake implement it; see [MapperFunc] and [Image].
type FrameMapper interface {
	// MapFrames maps the frames in the order given. A frame that cannot be
	// mapped is reported by [Frames.Frame], not by MapFrames.
	MapFrames(gfns []xen.GFN, writable bool) (Frames, error)
}

// Frames is a batch of mapped frames.
type Frames interface {
	Len() int
	// Frame returns the xen.PageSize bytes of the i-th frame, which are valid
	// until Close, or the error that kept it from being mapped.
	Frame(i int) ([]byte, error)
	Close() error
}

// MapperFunc makes a [FrameMapper] of a function such as the MapFrames method
// of a *xen.Domain:
//
//	mem := vmi.NewMemory(vmi.MapperFunc(dom.MapFrames), nil)
func MapperFunc[F Frames](f func([]xen.GFN, bool) (F, error)) FrameMapper {
	return mapperFunc[F](f)
}

type mapperFunc[F Frames] func([]xen.GFN, bool) (F, error)

func (f mapperFunc[F]) MapFrames(gfns []xen.GFN, writable bool) (Frames, error) {
	fr, err := f(gfns, writable)
	if err != nil {
		return nil, err // not fr: a nil F in an interface is not nil
	}
	return fr, nil
}

var errReadOnlyImage = errors.New("a memory image cannot be written")

// Image returns a [FrameMapper] over a raw memory image: byte n of r is the
// byte at guest-physical address n. A frame is copied when it is mapped, so
// later changes of r are seen only after [Memory.Invalidate].
func Image(r io.ReaderAt) FrameMapper { return image{r} }

type image struct{ r io.ReaderAt }

type imageFrames struct {
	data []byte
	errs []error
}

func (im image) MapFrames(gfns []xen.GFN, writable bool) (Frames, error) {
	if writable {
		return nil, errReadOnlyImage
	}
	fr := &imageFrames{make([]byte, len(gfns)*xen.PageSize), make([]error, len(gfns))}
	for i, g := range gfns {
		if g >= 1<<(52-xen.PageShift) {
			fr.errs[i] = io.EOF
			continue
		}
		p := fr.data[i*xen.PageSize : (i+1)*xen.PageSize]
		if n, err := im.r.ReadAt(p, int64(g)<<xen.PageShift); n < len(p) {
			fr.errs[i] = err
		}
	}
	return fr, nil
}

func (fr *imageFrames) Len() int { return len(fr.errs) }

func (fr *imageFrames) Frame(i int) ([]byte, error) {
	if err := fr.errs[i]; err != nil {
		return nil, err
	}
	return fr.data[i*xen.PageSize : (i+1)*xen.PageSize : (i+1)*xen.PageSize], nil
}

func (fr *imageFrames) Close() error { return nil }
