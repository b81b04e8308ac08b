package vmi

import (
	"archive/zip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"weak"

	"github.com/govmi/govmi/xen"
)

// A recording is a zip archive, whose checksums and compression it uses, of
//
//	recording.json  RecordingInfo: the format's version, registers, a comment
//	frames          the numbers of the frames, 8 bytes each, little endian,
//	                ascending
//	pages/N         the pages of frames 64*N to 64*N+63 of that list
//
// pages/0 is the first of them. Other members are ignored.
const (
	recordingVersion = 1
	recordingInfo    = "recording.json"
	recordingFrames  = "frames"
	recordingChunk   = 64

	// maxRecordedFrames is 64 GiB of memory.
	maxRecordedFrames = 1 << 24
	maxRecordingInfo  = 16 << 20
)

func chunkName(i int) string { return fmt.Sprintf("pages/%d", i) }

// RecordingInfo is what a recording says beside the frames.
type RecordingInfo struct {
	// Version is that of the format: 1.
	Version int
	// Comment says what was recorded.
	Comment string
	// Registers are those of the vCPUs.
	Registers []xen.Registers
}

// Recording is a [Snapshot] of the frames that a [Recorder] noted.
type Recording struct {
	info   RecordingInfo
	gfns   []xen.GFN
	chunks []*zip.File

	mu sync.Mutex
	// unpacked holds on to no chunk that nobody uses.
	unpacked []weak.Pointer[unpackedChunk]
}

type unpackedChunk [recordingChunk * xen.PageSize]byte

// OpenRecording opens a recording of size bytes. It reads the list of frames;
// frames are unpacked, and their checksums compared, when they are mapped.
// Errors match [ErrFormat].
func OpenRecording(r io.ReaderAt, size int64) (*Recording, error) {
	rec, err := openRecording(r, size)
	if err != nil {
		return nil, fmt.Errorf("%w: recording: %w", ErrFormat, err)
	}
	return rec, nil
}

func openRecording(r io.ReaderAt, size int64) (*Recording, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	files := make(map[string]*zip.File)
	for _, f := range z.File {
		files[f.Name] = f
	}
	rec := new(Recording)
	b, err := readMember(files, recordingInfo, maxRecordingInfo)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &rec.info); err != nil {
		return nil, fmt.Errorf("%s: %w", recordingInfo, err)
	}
	if rec.info.Version != recordingVersion {
		return nil, fmt.Errorf("version %d, known is %d", rec.info.Version, recordingVersion)
	}
	if b, err = readMember(files, recordingFrames, 8*maxRecordedFrames); err != nil {
		return nil, err
	}
	if len(b)%8 != 0 {
		return nil, errors.New("the list of frames is cut short")
	}
	rec.gfns = make([]xen.GFN, len(b)/8)
	for i := range rec.gfns {
		rec.gfns[i] = xen.GFN(binary.LittleEndian.Uint64(b[8*i:]))
		if i > 0 && rec.gfns[i] <= rec.gfns[i-1] {
			return nil, errors.New("the list of frames is not in order")
		}
	}
	for i := range (len(rec.gfns) + recordingChunk - 1) / recordingChunk {
		f := files[chunkName(i)]
		if f == nil {
			return nil, fmt.Errorf("no member %s", chunkName(i))
		}
		rec.chunks = append(rec.chunks, f)
	}
	rec.unpacked = make([]weak.Pointer[unpackedChunk], len(rec.chunks))
	return rec, nil
}

// readMember reads a member of at most max bytes.
func readMember(files map[string]*zip.File, name string, max int64) ([]byte, error) {
	f := files[name]
	if f == nil {
		return nil, fmt.Errorf("no member %s", name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s has more than %d bytes", name, max)
	}
	return b, nil
}

// Info returns what the recording says of itself.
func (r *Recording) Info() RecordingInfo { return r.info }

// Registers implements [Snapshot].
func (r *Recording) Registers() []xen.Registers { return slices.Clone(r.info.Registers) }

// GFNs implements [Snapshot].
func (r *Recording) GFNs() iter.Seq[xen.GFN] { return slices.Values(r.gfns) }

// MapFrames implements [FrameMapper]; a frame that was not recorded fails with
// [ErrNotInFile].
func (r *Recording) MapFrames(gfns []xen.GFN, writable bool) (Frames, error) {
	return copyFrames(gfns, writable, func(g xen.GFN) ([]byte, error) {
		i, ok := slices.BinarySearch(r.gfns, g)
		if !ok {
			return nil, ErrNotInFile
		}
		c, err := r.chunk(i / recordingChunk)
		if err != nil {
			return nil, err
		}
		off := i % recordingChunk * xen.PageSize
		return c[off : off+xen.PageSize : off+xen.PageSize], nil
	})
}

// chunk returns the pages of a member, unpacked once as long as they are used.
func (r *Recording) chunk(i int) (*unpackedChunk, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.unpacked[i].Value(); p != nil {
		return p, nil
	}
	c := new(unpackedChunk)
	b := c[:min(recordingChunk, len(r.gfns)-i*recordingChunk)*xen.PageSize]
	f, err := r.chunks[i].Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, chunkName(i), err)
	}
	defer f.Close()
	if _, err = io.ReadFull(f, b); err == nil {
		// Reading on compares the checksum.
		var more [1]byte
		if _, err = io.ReadFull(f, more[:]); err == nil {
			err = errors.New("more pages than frames")
		} else if err == io.EOF {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, chunkName(i), err)
	}
	r.unpacked[i] = weak.Make(c)
	return c, nil
}
