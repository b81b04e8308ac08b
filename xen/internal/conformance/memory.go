package conformance

import (
	"bytes"
	"errors"

	"github.com/govmi/govmi/xen"
)

var memoryChecks = []check{
	{name: "map frames", run: mapFrames},
	{name: "populate and remove a frame", run: populate},
}

func mapFrames(e *env) {
	last, err := e.dom.MaximumGPFN()
	e.must(err)
	f, err := e.dom.MapFrames([]xen.GFN{1, last + 1000, 2, 1 << 36}, false)
	e.must(err)
	for i, there := range []bool{true, false, true, false} {
		b, err := f.Frame(i)
		if (err == nil) != there || there && len(b) != xen.PageSize {
			e.Errorf("frame %d: %d bytes, %v", i, len(b), err)
		}
	}
	e.must(errors.Join(f.Close(), f.Close()))
	_, err = f.Frame(0)
	e.want("frame after Close", err, xen.ErrClosed)
	_, err = e.dom.MapFrames(nil, false)
	if err == nil {
		e.Error("no frames were mapped")
	}
}

// spare gives the domain a frame beyond its last, and takes it back at the
// check's end.
func (e *env) spare() xen.GFN {
	e.Helper()
	info, err := e.dom.Info()
	e.must(err)
	last, err := e.dom.MaximumGPFN()
	e.must(err)
	e.must(e.dom.SetMaxPages(info.MaxPages + 1))
	e.Cleanup(func() { e.must(e.dom.SetMaxPages(info.MaxPages)) })
	gfn := last + 1
	e.must(e.dom.Populate(gfn))
	e.Cleanup(func() { e.must(e.dom.RemoveFrame(gfn)) })
	return gfn
}

// What is written through one mapping is read through another.
func populate(e *env) {
	gfn := e.spare()
	w, err := e.dom.MapFrames([]xen.GFN{gfn}, true)
	e.must(err)
	defer w.Close()
	page, err := w.Frame(0)
	e.must(err)
	copy(page, bytes.Repeat([]byte("conform!"), xen.PageSize/8))
	r, err := e.dom.MapFrames([]xen.GFN{gfn}, false)
	e.must(err)
	defer r.Close()
	got, err := r.Frame(0)
	e.must(err)
	if !bytes.Equal(got, page) {
		e.Error("two mappings of a frame differ")
	}
	if err := e.dom.Populate(gfn); err == nil {
		e.Error("a frame was populated twice")
	}
	if err := e.dom.RemoveFrame(gfn + 1000); err == nil {
		e.Error("a frame that is not there was removed")
	}
}
