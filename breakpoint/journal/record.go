package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/govmi/govmi/xen"
)

// magic begins a journal. The records follow: the length of the body and its
// checksum, 4 bytes each, then the body, a kind and its fields. All numbers are
// little-endian.
const magic = "govmi journal 1\n"

const (
	headSize = 8
	// maxBody bounds a record's body.
	maxBody = 128
	// maxInsn bounds an x86 instruction.
	maxInsn = 15
)

// ErrCorrupt says that a file is no journal, or is damaged elsewhere than at its
// end, so that it cannot be told what has been done to the guest.
var ErrCorrupt = errors.New("not a journal, or damaged")

// kind says what a record is about. What is done to the guest is recorded before
// it is done, what is undone afterwards, but for what Xen decides: a view's
// number, that a page is there.
type kind uint8

const (
	kindDomain     kind = 1 + iota // which domain the journal is about: the first record, and no other
	kindAltP2M                     // altp2m is turned on
	kindAltP2MOff                  // and off
	kindView                       // a view was made
	kindViewGone                   // and destroyed
	kindFrame                      // a page is put where there is none, the domain paused
	kindFrameThere                 // it was
	kindFrameGone                  // it was not, or was taken back
	kindPatch                      // the first byte of an instruction becomes int3, at times
	kindPatchGone                  // and is the original one for good
	kindLimit                      // the domain may have more pages, or fewer
	kindLimitBack                  // as many as at first
	kindAccess                     // the guest may do less with frames: the monitor's end allows all again
)

// record is one of the journal. Which fields count depends on the kind.
type record struct {
	kind   kind
	domain identity
	view   xen.View
	gfn    xen.GFN
	offset uint16
	insn   string // as much of it as is in the frame
	before uint64 // pages
	after  uint64
	last   xen.GFN // from gfn on
}

// append adds the record, as it is in the file, to b.
func (r *record) append(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, headSize)...)
	b = append(b, byte(r.kind))
	le := binary.LittleEndian
	switch r.kind {
	case kindDomain:
		b = le.AppendUint16(b, uint16(r.domain.id))
		b = append(b, r.domain.uuid[:]...)
		b = append(b, r.domain.boot[:]...)
		b = le.AppendUint64(b, uint64(r.domain.started))
		b = le.AppendUint64(b, uint64(r.domain.cpuTime))
	case kindView, kindViewGone:
		b = le.AppendUint16(b, uint16(r.view))
	case kindFrame, kindFrameThere, kindFrameGone:
		b = le.AppendUint64(b, uint64(r.gfn))
	case kindPatch, kindPatchGone:
		b = le.AppendUint64(b, uint64(r.gfn))
		b = le.AppendUint16(b, r.offset)
		b = append(b, r.insn...)
	case kindLimit:
		b = le.AppendUint64(b, r.before)
		b = le.AppendUint64(b, r.after)
	case kindAccess:
		b = le.AppendUint64(b, uint64(r.gfn))
		b = le.AppendUint64(b, uint64(r.last))
	}
	body := b[start+headSize:]
	le.PutUint32(b[start:], uint32(len(body)))
	le.PutUint32(b[start+4:], checksum(body))
	return b
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// next takes the first record of b, of n bytes. n is 0 if b ends before the
// record does, which the monitor's death explains.
func next(b []byte) (r record, n int, err error) {
	if len(b) < headSize {
		return r, 0, nil
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxBody {
		return r, 0, fmt.Errorf("%w: a record of %d bytes", ErrCorrupt, size)
	}
	n = headSize + int(size)
	if len(b) < n {
		return r, 0, nil
	}
	body := b[headSize:n]
	if checksum(body) != binary.LittleEndian.Uint32(b[4:]) {
		return r, 0, fmt.Errorf("%w: a record's checksum is wrong", ErrCorrupt)
	}
	r, err = decode(body)
	return r, n, err
}

// decode reads a record's body.
func decode(body []byte) (r record, err error) {
	r.kind = kind(body[0])
	f := fields{b: body[1:]}
	switch r.kind {
	case kindDomain:
		r.domain.id = xen.DomID(f.uint16())
		copy(r.domain.uuid[:], f.take(len(r.domain.uuid)))
		copy(r.domain.boot[:], f.take(len(r.domain.boot)))
		r.domain.started, r.domain.cpuTime = int64(f.uint64()), int64(f.uint64())
	case kindAltP2M, kindAltP2MOff, kindLimitBack:
	case kindView, kindViewGone:
		r.view = xen.View(f.uint16())
	case kindFrame, kindFrameThere, kindFrameGone:
		r.gfn = xen.GFN(f.uint64())
	case kindPatch, kindPatchGone:
		r.gfn, r.offset = xen.GFN(f.uint64()), f.uint16()
		if r.kind == kindPatch {
			r.insn = string(f.take(len(f.b)))
			if n := len(r.insn); n == 0 || n > maxInsn || int(r.offset)+n > xen.PageSize {
				f.short = true
			}
		}
		if r.offset >= xen.PageSize {
			f.short = true
		}
	case kindLimit:
		r.before, r.after = f.uint64(), f.uint64()
	case kindAccess:
		r.gfn, r.last = xen.GFN(f.uint64()), xen.GFN(f.uint64())
		if r.last < r.gfn {
			f.short = true
		}
	default:
		return r, fmt.Errorf("%w: a record of kind %d", ErrCorrupt, r.kind)
	}
	if f.short || len(f.b) > 0 {
		return r, fmt.Errorf("%w: a record of kind %d has wrong fields", ErrCorrupt, r.kind)
	}
	return r, nil
}

// fields takes fields from the front of b; short says that one was not there.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if len(f.b) < n {
		f.b, f.short = nil, true
		return make([]byte, n)
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) uint16() uint16 { return binary.LittleEndian.Uint16(f.take(2)) }
func (f *fields) uint64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }
