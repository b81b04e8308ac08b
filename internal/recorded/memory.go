package recorded

import (
	"errors"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// End is the first frame that the recorded guest has not.
const End = xen.GFN(0xc000)

// Memory is that of a recorded guest, which can be written here. Once the kernel is
// found, the frames that the recording lacks are empty.
type Memory struct {
	file  vmi.Snapshot
	pages map[xen.GFN][]byte
	found bool
}

// Page returns the page at a frame, which all mappings share.
func (m *Memory) Page(g xen.GFN) ([]byte, error) {
	if p := m.pages[g]; p != nil {
		return p, nil
	}
	p := make([]byte, xen.PageSize)
	if err := m.restore(g, p); err != nil {
		return nil, err
	}
	m.pages[g] = p
	return p, nil
}

// Add gives the guest an empty page.
func (m *Memory) Add(g xen.GFN) { m.pages[g] = make([]byte, xen.PageSize) }

// Remove takes it away.
func (m *Memory) Remove(g xen.GFN) { delete(m.pages, g) }

// restore makes a page what it was when the guest was recorded.
func (m *Memory) restore(g xen.GFN, p []byte) error {
	f, err := m.file.MapFrames([]xen.GFN{g}, false)
	if err != nil {
		return err
	}
	b, err := f.Frame(0)
	if errors.Is(err, vmi.ErrNotInFile) && m.found && g < End {
		b, err = make([]byte, xen.PageSize), nil
	}
	if err != nil {
		return err
	}
	copy(p, b)
	return f.Close()
}

// frames is a mapping.
type frames struct {
	pages [][]byte
	errs  []error
}

// MapFrames implements [vmi.FrameMapper].
func (m *Memory) MapFrames(gfns []xen.GFN, _ bool) (vmi.Frames, error) {
	f := &frames{make([][]byte, len(gfns)), make([]error, len(gfns))}
	for i, g := range gfns {
		f.pages[i], f.errs[i] = m.Page(g)
	}
	return f, nil
}

func (f *frames) Len() int                    { return len(f.pages) }
func (f *frames) Frame(i int) ([]byte, error) { return f.pages[i], f.errs[i] }
func (f *frames) Close() error                { return nil }
