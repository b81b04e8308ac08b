// Package wire is the control protocol between the lab's host side and the
// agent in dom0, spoken over dom0's second serial port.
//
// A frame is one line of printable ASCII:
//
//	@govmi1 CRC32 {"kind":"run","body":{...}}\n
//
// CRC32 is the IEEE checksum of the JSON text as eight lower-case hex digits.
// A line that is not a frame is an error of the whole connection: nothing
// else is ever written to that port, so noise means lost data. Bulk data does
// not travel here but on the job and result disks, see [DiskHeader].
package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// Version of the protocol; the agent reports it in [Hello] and the host
// refuses another one.
const Version = 1

// MaxFrame is the largest frame in bytes, its newline included.
const MaxFrame = 64 << 10

// MaxData is the largest payload of one [Out] or [Stdin] in bytes; in base64
// it fits into [MaxFrame] with room to spare.
const MaxData = 32 << 10

const marker = "@govmi1 "

// Errors of the decoder and encoder.
var (
	// ErrCorrupt reports bytes that are not a frame: noise, a damaged or
	// unfinished line, a wrong checksum, JSON that does not parse.
	ErrCorrupt = errors.New("wire: corrupt frame")
	// ErrTooLong reports a frame above [MaxFrame].
	ErrTooLong = errors.New("wire: frame too long")
	// ErrUnknownKind reports an intact frame of a kind this side does not know.
	ErrUnknownKind = errors.New("wire: unknown frame kind")
)

type envelope struct {
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Append appends m's frame to dst.
func Append(dst []byte, m Message) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("wire: encode %s: %w", m.Kind(), err)
	}
	text, err := json.Marshal(envelope{Kind: m.Kind(), Body: body})
	if err != nil {
		return dst, fmt.Errorf("wire: encode %s: %w", m.Kind(), err)
	}
	if len(marker)+9+len(text)+1 > MaxFrame {
		return dst, fmt.Errorf("%w: %s of %d bytes", ErrTooLong, m.Kind(), len(text))
	}
	dst = append(dst, marker...)
	dst = fmt.Appendf(dst, "%08x ", crc32.ChecksumIEEE(text))
	dst = append(dst, text...)
	return append(dst, '\n'), nil
}

// Parse decodes one frame from its line, with or without the newline. A
// trailing carriage return is noise like any other: the port is in raw mode.
func Parse(line []byte) (Message, error) {
	if len(line) > MaxFrame {
		return nil, ErrTooLong
	}
	text, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte(marker))
	if !ok || len(text) < 9 || text[8] != ' ' {
		return nil, fmt.Errorf("%w: %q", ErrCorrupt, clip(line))
	}
	sum, text := text[:8], text[9:]
	if want := fmt.Appendf(nil, "%08x", crc32.ChecksumIEEE(text)); !bytes.Equal(sum, want) {
		return nil, fmt.Errorf("%w: checksum %s, computed %s: %q", ErrCorrupt, sum, want, clip(text))
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	m := newMessage(e.Kind)
	if m == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownKind, clip([]byte(e.Kind)))
	}
	if err := json.Unmarshal(e.Body, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrCorrupt, e.Kind, err)
	}
	return m, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 120)] }

// Encoder writes frames; it is safe for concurrent use.
type Encoder struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewEncoder returns an encoder on w. It does not close w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Encode writes m as one Write call. It blocks as long as w does.
func (e *Encoder) Encode(m Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	if e.buf, err = Append(e.buf[:0], m); err != nil {
		return err
	}
	if _, err = e.w.Write(e.buf); err != nil {
		return fmt.Errorf("wire: send %s: %w", m.Kind(), err)
	}
	return nil
}

// Decoder reads frames. It is for one goroutine.
type Decoder struct {
	r *bufio.Reader
}

// NewDecoder returns a decoder on r. It does not close r.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: bufio.NewReaderSize(r, MaxFrame)} }

// Decode returns the next frame. The error is io.EOF at an end between two
// frames, wraps io.ErrUnexpectedEOF within one, and wraps [ErrCorrupt],
// [ErrTooLong] or [ErrUnknownKind] for what is not a frame of this protocol.
func (d *Decoder) Decode() (Message, error) {
	line, err := d.r.ReadSlice('\n')
	switch {
	case err == nil:
		return Parse(line)
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: %q", ErrTooLong, clip(line))
	case errors.Is(err, io.EOF) && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("wire: %w: %q", io.ErrUnexpectedEOF, clip(line))
	default:
		return nil, fmt.Errorf("wire: receive: %w", err)
	}
}
