package xen

// Frames is a set of guest frames mapped into this process.
type Frames struct {
}

// MapFrames maps guest frames.
func (d *Domain) MapFrames(gfns []GFN, writable bool) (*Frames, error) { return nil, errUnfinished }

// Len returns the number of frames asked for.
func (f *Frames) Len() int { return 0 }

// Frame returns the bytes of the i'th frame, or why it could not be mapped.
// The slice is valid until [Frames.Close].
func (f *Frames) Frame(i int) ([]byte, error) { return nil, errUnfinished }

// Close unmaps the frames. It is idempotent.
func (f *Frames) Close() error { return nil }
