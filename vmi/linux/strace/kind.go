package strace

// kind says how one argument is written.
type kind struct {
	put func(s *state, v uint64)
	// out marks an argument that the kernel fills in: written at exit.
	out bool
	// glue joins the text to the argument before it.
	glue bool
	// pre runs at entry for an out argument whose value at entry matters.
	pre func(s *state, v uint64)
}

func in(put func(*state, uint64)) kind  { return kind{put: put} }
func out(put func(*state, uint64)) kind { return kind{put: put, out: true} }

func flagsOf(x *xlat) kind { return in(func(s *state, v uint64) { s.flags(x, v&0xffffffff) }) }
func enumOf(x *xlat) kind  { return in(func(s *state, v uint64) { s.enum(x, v&0xffffffff) }) }

// The kinds of plain numbers and addresses.
var (
	decInt   = in(func(s *state, v uint64) { s.dec(int64(int32(v))) })
	decLong  = in(func(s *state, v uint64) { s.dec(int64(v)) })
	uInt     = in(func(s *state, v uint64) { s.udec(v & 0xffffffff) })
	uLong    = in(func(s *state, v uint64) { s.udec(v) })
	hexInt   = in(func(s *state, v uint64) { s.hex(v & 0xffffffff) })
	hexLong  = in(func(s *state, v uint64) { s.hex(v) })
	addr     = in((*state).ptr)
	octMode  = in(func(s *state, v uint64) { s.mode(v & 0xffff) })
	fd       = decInt
	pid      = decInt
	size     = uLong
	path     = in((*state).path)
	cstring  = in((*state).cstr)
	ownerID  = in(func(s *state, v uint64) { s.owner(v) })
	fileMode = in(func(s *state, v uint64) { s.fileMode(v & 0xffff) })
)

// owner writes a uid or gid; -1 means "leave it".
func (s *state) owner(v uint64) {
	if uint32(v) == ^uint32(0) {
		s.str("-1")
		return
	}
	s.udec(v & 0xffffffff)
}

// dirfd writes a directory descriptor.
var dirfd = in(func(s *state, v uint64) {
	if int32(v) == -100 {
		s.str("AT_FDCWD")
		return
	}
	s.dec(int64(int32(v)))
})

// bufLen is a buffer that the caller filled, its length the argument at index
// i.
func bufLen(i int) kind {
	return in(func(s *state, v uint64) { s.bytes(v, s.args[i], false) })
}

// bufRet is a buffer that the kernel filled, its length the return value.
var bufRet = out(func(s *state, v uint64) {
	if s.skipOut(v) {
		return
	}
	s.bytes(v, uint64(s.ret), false)
})

// randRet is bufRet for bytes that are no text.
var randRet = out(func(s *state, v uint64) {
	if s.skipOut(v) {
		return
	}
	s.bytes(v, uint64(s.ret), true)
})

// strOut is a NUL-terminated string that the kernel wrote.
var strOut = out(func(s *state, v uint64) {
	if s.skipOut(v) {
		return
	}
	s.path(v)
})

// outInts is an array of n ints that the kernel wrote.
func outInts(n int) kind {
	return out(func(s *state, v uint64) {
		b := s.structAt(v, 4*n)
		if b == nil {
			return
		}
		s.char('[')
		for i := range n {
			if i > 0 {
				s.str(", ")
			}
			s.dec(i32(b[4*i:]))
		}
		s.char(']')
	})
}

// outUint is one unsigned int that the kernel wrote.
var outUint = out(func(s *state, v uint64) {
	if b := s.structAt(v, 4); b != nil {
		s.char('[')
		s.udec(u32(b))
		s.char(']')
	}
})

// inOutLong is a long that is both read and written, as an offset is.
var inOutLong = kind{
	out: true,
	pre: func(s *state, v uint64) {
		if v == 0 {
			return
		}
		if b := s.fetch(v, 8); b != nil {
			s.stash = u64(b)
		}
	},
	put: func(s *state, v uint64) {
		b := s.structAt(v, 8)
		if b == nil {
			return
		}
		s.char('[')
		s.dec(int64(s.stash))
		if now := u64(b); now != s.stash {
			s.str("] => [")
			s.dec(int64(now))
		}
		s.char(']')
	},
}

// inLong is a pointer to a long.
var inLong = in(func(s *state, v uint64) {
	if b := s.structAt(v, 8); b != nil {
		s.char('[')
		s.dec(i64(b))
		s.char(']')
	}
})

// argv is an argument vector.
var argv = in(func(s *state, v uint64) {
	if v == 0 {
		s.str("NULL")
		return
	}
	start := len(s.buf)
	s.char('[')
	for i := 0; ; i++ {
		m := s.mark()
		b := s.fetch(v+8*uint64(i), 8)
		if b == nil {
			if i == 0 {
				s.buf = s.buf[:start]
				s.ptr(v)
				return
			}
			s.str(", ... /* ")
			s.hex(v + 8*uint64(i))
			s.str(" */]")
			return
		}
		p := u64(b)
		s.release(m)
		if p == 0 {
			break
		}
		if i > 0 {
			s.str(", ")
		}
		if i == maxArray {
			s.str("...")
			break
		}
		s.cstr(p)
	}
	s.char(']')
})

// envp is an environment: its address and the number of variables.
var envp = in(func(s *state, v uint64) {
	s.ptr(v)
	if v == 0 {
		return
	}
	n := 0
	for n < maxEnv {
		m := s.mark()
		// Up to the page's end, so that only mapped memory is asked for.
		at := v + 8*uint64(n)
		want := min(512, int(pageSize-at&(pageSize-1))/8*8)
		b := s.fetch(at, max(want, 8))
		if b == nil {
			if n == 0 {
				return
			}
			s.failed = false
			break
		}
		done := false
		for ; len(b) >= 8; b = b[8:] {
			if u64(b) == 0 {
				done = true
				break
			}
			n++
		}
		s.release(m)
		if done {
			s.vars(n, "")
			return
		}
	}
	s.vars(n, ", unterminated")
})

func (s *state) vars(n int, note string) {
	s.str(" /* ")
	s.dec(int64(n))
	if n == 1 {
		s.str(" var")
	} else {
		s.str(" vars")
	}
	s.str(note)
	s.str(" */")
}

// iovIn is a vector of buffers that the caller filled, its length the
// argument at index i.
func iovIn(i int) kind {
	return in(func(s *state, v uint64) { s.iovec(v, s.args[i], ^uint64(0)) })
}

// iovOut is a vector that the kernel filled with as many bytes as it returned.
func iovOut(i int) kind {
	return out(func(s *state, v uint64) {
		n := uint64(s.ret)
		if s.errno != 0 {
			n = 0
		}
		s.iovec(v, s.args[i], n)
	})
}

// iovec writes a vector of which data bytes hold something.
func (s *state) iovec(v, n, data uint64) {
	if v == 0 || n == 0 {
		if v != 0 {
			s.str("[]")
			return
		}
		s.ptr(v)
		return
	}
	start := len(s.buf)
	s.char('[')
	for i := range n {
		if i > 0 {
			s.str(", ")
		}
		if i == maxArray {
			s.str("...")
			break
		}
		m := s.mark()
		b := s.fetch(v+16*i, 16)
		if b == nil {
			if i == 0 {
				s.buf = s.buf[:start]
				s.ptr(v)
				return
			}
			s.str("... /* ")
			s.hex(v + 16*i)
			s.str(" */")
			break
		}
		base, length := u64(b), u64(b[8:])
		s.release(m)
		s.str("{iov_base=")
		shown := min(length, data)
		if data != ^uint64(0) && s.errno != 0 {
			s.ptr(base)
		} else {
			s.bytes(base, shown, false)
		}
		if data != ^uint64(0) {
			data -= shown
		}
		s.str(", iov_len=")
		s.udec(length)
		s.char('}')
	}
	s.char(']')
}
