package vmi

import "github.com/govmi/govmi/xen"

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
