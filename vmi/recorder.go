package vmi

import (
	"archive/zip"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/govmi/govmi/xen"
)

// Recorder is a [FrameMapper] that notes which frames of another one were
// mapped, and writes them as a recording. A [Memory] over it should map frame
// by frame ([MemoryOptions] with Batch 1), so that only frames that were read are
// noted. All methods are safe for concurrent use.
type Recorder struct {
	src FrameMapper

	mu   sync.Mutex
	seen map[xen.GFN]struct{}
}

// NewRecorder returns a recorder of what is mapped through it from src.
func NewRecorder(src FrameMapper) *Recorder {
	return &Recorder{src: src, seen: make(map[xen.GFN]struct{})}
}

// MapFrames implements [FrameMapper].
func (r *Recorder) MapFrames(gfns []xen.GFN, writable bool) (Frames, error) {
	f, err := r.src.MapFrames(gfns, writable)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, g := range gfns {
		if _, err := f.Frame(i); err == nil {
			r.seen[g] = struct{}{}
		}
	}
	return f, nil
}

// Len returns the number of frames noted.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// Save writes a recording of the frames noted, as they are now: the guest is to
// be paused from the first read to the end of Save. A frame that the guest has
// given away since is left out.
func (r *Recorder) Save(w io.Writer, info RecordingInfo) error {
	r.mu.Lock()
	gfns := slices.Sorted(maps.Keys(r.seen))
	r.mu.Unlock()
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestCompression)
	})
	info.Version = recordingVersion
	text, err := json.MarshalIndent(info, "", "\t")
	if err != nil {
		return err
	}
	if err := writeMember(z, recordingInfo, append(text, '\n')); err != nil {
		return err
	}
	kept, err := r.savePages(z, gfns)
	if err != nil {
		return err
	}
	list := make([]byte, 0, 8*len(kept))
	for _, g := range kept {
		list = binary.LittleEndian.AppendUint64(list, uint64(g))
	}
	if err := writeMember(z, recordingFrames, list); err != nil {
		return err
	}
	return z.Close()
}

// savePages writes the frames' pages and returns the frames that there still
// are.
func (r *Recorder) savePages(z *zip.Writer, gfns []xen.GFN) (kept []xen.GFN, err error) {
	var chunk []byte
	chunks := 0
	flush := func() error {
		err := writeMember(z, chunkName(chunks), chunk)
		chunk, chunks = chunk[:0], chunks+1
		return err
	}
	for part := range slices.Chunk(gfns, recordingChunk) {
		f, err := r.src.MapFrames(part, false)
		if err != nil {
			return nil, fmt.Errorf("frames from %v on: %w", part[0], err)
		}
		for i, g := range part {
			p, err := f.Frame(i)
			if err != nil {
				continue
			}
			chunk, kept = append(chunk, p...), append(kept, g)
			if len(chunk) == recordingChunk*xen.PageSize {
				if err := flush(); err != nil {
					f.Close()
					return nil, err
				}
			}
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if len(chunk) > 0 {
		return kept, flush()
	}
	return kept, nil
}

func writeMember(z *zip.Writer, name string, b []byte) error {
	w, err := z.Create(name)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
