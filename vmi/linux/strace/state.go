package strace

import (
	"encoding/binary"
	"strconv"
)

// Reader reads the traced process's memory at user addresses. Read fills p
// from addr and returns the number of bytes read, which is less than len(p)
// only with an error. It must not retain p.
type Reader interface {
	Read(addr uint64, p []byte) (int, error)
}

// Bounds on what is read and written for one call.
const (
	maxString = 32       // bytes of a string or buffer shown, strace's -s 32
	maxArray  = 32       // elements of an array shown, as strace's abbreviation
	maxPath   = 4096     // bytes of a path, the kernel's PATH_MAX
	maxEnv    = 8192     // pointers counted in an environment
	arenaSize = 20 << 10 // bytes of one argument held at a time
	maxText   = 48 << 10 // bytes of text, beyond which nothing is added
)

const pageSize = 4096

// state is what a kind works on: the call's raw values, its memory and the
// text under construction.
type state struct {
	mem  Reader
	buf  []byte
	args [6]uint64
	sp   uint64

	exit   bool  // the call has returned
	out    bool  // the argument is one that the kernel fills in
	ret    int64 // valid if exit
	errno  int   // of a failed call, else 0
	stash  uint64
	failed bool // memory that the argument needs was not readable

	used  int
	arena [arenaSize]byte
}

// fetch reads n bytes at addr. It returns nil and marks the argument as
// failed if they cannot all be read. The slice is valid until the current
// argument is done or its mark released.
func (s *state) fetch(addr uint64, n int) []byte {
	if n < 0 || n > len(s.arena)-s.used || addr+uint64(n) < addr {
		s.failed = true
		return nil
	}
	p := s.arena[s.used : s.used+n : s.used+n]
	if n == 0 {
		return p
	}
	if got, err := s.mem.Read(addr, p); err != nil || got < n {
		s.failed = true
		return nil
	}
	s.used += n
	return p
}

// mark and release bracket a fetch whose bytes are needed no longer.
func (s *state) mark() int     { return s.used }
func (s *state) release(m int) { s.used = m }

// fetchString reads a NUL-terminated string of at most max bytes. ended is
// false if no NUL was among them. ok is false if memory ended before either.
func (s *state) fetchString(addr uint64, max int) (str []byte, ended, ok bool) {
	if max > len(s.arena)-s.used {
		s.failed = true
		return nil, false, false
	}
	base := s.used
	for n := 0; n < max; {
		// A chunk never crosses a page, so that a string at the end of the
		// last mapped page is read in full. The first is short: most are.
		chunk := min(max-n, pageSize-int((addr+uint64(n))&(pageSize-1)))
		if n == 0 {
			chunk = min(chunk, 64)
		}
		p := s.arena[base+n : base+n+chunk]
		if got, err := s.mem.Read(addr+uint64(n), p); err != nil || got < chunk {
			s.failed = true
			return nil, false, false
		}
		for i, c := range p {
			if c == 0 {
				s.used = base + n + i
				return s.arena[base:s.used], true, true
			}
		}
		n += chunk
	}
	s.used = base + max
	return s.arena[base:s.used], false, true
}

func (s *state) room() bool { return len(s.buf) < maxText }

func (s *state) str(t string) {
	if s.room() {
		s.buf = append(s.buf, t...)
	}
}

func (s *state) char(c byte) { s.buf = append(s.buf, c) }

func (s *state) dec(v int64)   { s.buf = strconv.AppendInt(s.buf, v, 10) }
func (s *state) udec(v uint64) { s.buf = strconv.AppendUint(s.buf, v, 10) }

// hex writes C's %#x: zero has no prefix.
func (s *state) hex(v uint64) {
	if v == 0 {
		s.char('0')
		return
	}
	s.buf = append(s.buf, "0x"...)
	s.buf = strconv.AppendUint(s.buf, v, 16)
}

// mode writes permission bits: octal, at least three digits.
func (s *state) mode(v uint64) {
	s.char('0')
	for m := uint64(0o7); m < 0o77 && v <= m; m = m<<3 | 7 {
		s.char('0')
	}
	s.buf = strconv.AppendUint(s.buf, v, 8)
}

// ptr writes an address.
func (s *state) ptr(v uint64) {
	if v == 0 {
		s.str("NULL")
		return
	}
	s.hex(v)
}

// quote writes b as a string literal. all forces \x escapes for every byte.
func (s *state) quote(b []byte, all bool) {
	if !s.room() {
		return
	}
	s.char('"')
	for i, c := range b {
		if all {
			s.buf = append(s.buf, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		switch c {
		case '"', '\\':
			s.buf = append(s.buf, '\\', c)
		case '\n':
			s.str(`\n`)
		case '\t':
			s.str(`\t`)
		case '\r':
			s.str(`\r`)
		case '\v':
			s.str(`\v`)
		case '\f':
			s.str(`\f`)
		default:
			if c >= ' ' && c <= '~' {
				s.char(c)
				continue
			}
			s.char('\\')
			// As few octal digits as the next byte leaves unambiguous.
			full := i+1 < len(b) && b[i+1] >= '0' && b[i+1] <= '7'
			if full || c>>6 != 0 {
				s.char('0' + c>>6)
			}
			if full || c>>3 != 0 {
				s.char('0' + c>>3&7)
			}
			s.char('0' + c&7)
		}
	}
	s.char('"')
}

const hexDigits = "0123456789abcdef"

// path writes the NUL-terminated path at addr, in full.
func (s *state) path(addr uint64) { s.cstring(addr, maxPath) }

// cstr writes the NUL-terminated string at addr, cut at maxString bytes.
func (s *state) cstr(addr uint64) { s.cstring(addr, maxString) }

func (s *state) cstring(addr uint64, max int) {
	if addr == 0 {
		s.str("NULL")
		return
	}
	m := s.mark()
	defer s.release(m)
	b, ended, ok := s.fetchString(addr, max+1)
	if !ok {
		s.ptr(addr)
		return
	}
	if !ended {
		b = b[:max]
	}
	s.quote(b, false)
	if !ended {
		s.str("...")
	}
}

// bytes writes the first maxString of n bytes at addr.
func (s *state) bytes(addr, n uint64, all bool) {
	if addr == 0 {
		s.str("NULL")
		return
	}
	m := s.mark()
	defer s.release(m)
	b := s.fetch(addr, int(min(n, maxString)))
	if b == nil {
		s.ptr(addr)
		return
	}
	s.quote(b, all)
	if n > maxString {
		s.str("...")
	}
}

// fixed writes a NUL-padded character field.
func (s *state) fixed(b []byte) {
	for i, c := range b {
		if c == 0 {
			b = b[:i]
			break
		}
	}
	cut := len(b) > maxString
	if cut {
		b = b[:maxString]
	}
	s.quote(b, false)
	if cut {
		s.str("...")
	}
}

// skipOut reports whether an argument that the kernel fills in has nothing to
// show, and writes the address instead.
func (s *state) skipOut(addr uint64) bool {
	if addr == 0 || s.errno != 0 {
		s.ptr(addr)
		return true
	}
	return false
}

// structAt fetches the n bytes of a structure, or writes the address.
func (s *state) structAt(addr uint64, n int) []byte {
	if addr == 0 || s.out && s.errno != 0 {
		s.ptr(addr)
		return nil
	}
	b := s.fetch(addr, n)
	if b == nil {
		s.ptr(addr)
	}
	return b
}

func u16(b []byte) uint64 { return uint64(binary.LittleEndian.Uint16(b)) }
func u32(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func i32(b []byte) int64  { return int64(int32(binary.LittleEndian.Uint32(b))) }
func i64(b []byte) int64  { return int64(binary.LittleEndian.Uint64(b)) }
