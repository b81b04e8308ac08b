package strace

// Waiting for files: poll, select, epoll, and futexes.

var pollNames = &xlat{unknown: "POLL???", names: []named{
	{0x1, "POLLIN"}, {0x2, "POLLPRI"}, {0x4, "POLLOUT"}, {0x8, "POLLERR"}, {0x10, "POLLHUP"}, {0x20, "POLLNVAL"}, {0x40, "POLLRDNORM"},
	{0x80, "POLLRDBAND"}, {0x100, "POLLWRNORM"}, {0x200, "POLLWRBAND"}, {0x400, "POLLMSG"}, {0x1000, "POLLREMOVE"}, {0x2000, "POLLRDHUP"},
}}

// pollfds is an array of struct pollfd, its length the argument at index 1.
var pollfds = in(func(s *state, v uint64) {
	n := s.args[1] & 0xffffffff
	if v == 0 || n == 0 {
		if v != 0 {
			s.str("[]")
			return
		}
		s.ptr(v)
		return
	}
	b := s.pollArray(v, n)
	if b == nil {
		s.ptr(v)
		return
	}
	s.char('[')
	for i := 0; len(b) >= 8; i, b = i+1, b[8:] {
		if i > 0 {
			s.str(", ")
		}
		s.str("{fd=")
		s.dec(i32(b))
		if i32(b) >= 0 {
			s.str(", events=")
			s.flags(pollNames, u16(b[4:]))
		}
		s.char('}')
	}
	if n > maxArray {
		s.str(", ...")
	}
	s.char(']')
})

func (s *state) pollArray(v, n uint64) []byte { return s.fetch(v, int(8*min(n, maxArray))) }

// pollReady is the remark after poll's value: which descriptors are ready.
func (s *state) pollReady() {
	if s.ret == 0 {
		s.str("(Timeout)")
		return
	}
	n := s.args[1] & 0xffffffff
	b := s.pollArray(s.args[0], n)
	if b == nil {
		return
	}
	s.str("([")
	for first := true; len(b) >= 8; b = b[8:] {
		if u16(b[6:]) == 0 {
			continue
		}
		if !first {
			s.str(", ")
		}
		first = false
		s.str("{fd=")
		s.dec(i32(b))
		s.str(", revents=")
		s.flags(pollNames, u16(b[6:]))
		s.char('}')
	}
	if n > maxArray {
		s.str(", ...")
	}
	s.char(']')
	s.char(')')
}

// ppollReady adds the time left.
func (s *state) ppollReady() {
	s.pollReady()
	if s.ret != 0 && s.args[2] != 0 {
		if b := s.fetch(s.args[2], 16); b != nil && s.buf[len(s.buf)-1] == ')' {
			s.buf = s.buf[:len(s.buf)-1]
			s.str(", left ")
			s.timespec(b)
			s.char(')')
		}
	}
}

// maxFDs bounds the descriptors of a select, the C library's FD_SETSIZE.
const maxFDs = 1024

func (s *state) fdSet(v uint64) []byte {
	n := min(uint64(max(int32(s.args[0]), 0)), maxFDs)
	return s.fetch(v, int((n+63)/64*8))
}

// fdSetIn is a set of descriptors below the first argument.
var fdSetIn = in(func(s *state, v uint64) {
	if v == 0 {
		s.ptr(v)
		return
	}
	b := s.fdSet(v)
	if b == nil {
		s.ptr(v)
		return
	}
	s.fdList(b)
})

func (s *state) fdList(b []byte) (n int) {
	s.char('[')
	for i := range min(8*len(b), int(max(int32(s.args[0]), 0))) {
		if b[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if n > 0 {
			s.char(' ')
		}
		n++
		s.dec(int64(i))
	}
	s.char(']')
	return n
}

// selectReady is the remark after select's value.
func (s *state) selectReady(left func(s *state, b []byte)) {
	if s.ret == 0 {
		s.str("(Timeout)")
		return
	}
	s.char('(')
	start := len(s.buf)
	for i, name := range [...]string{"in ", "out ", "except "} {
		v := s.args[1+i]
		if v == 0 {
			continue
		}
		b := s.fdSet(v)
		if b == nil {
			continue
		}
		from := len(s.buf)
		if from > start {
			s.str(", ")
		}
		s.str(name)
		if s.fdList(b) == 0 {
			s.buf = s.buf[:from]
		}
	}
	if s.args[4] != 0 {
		if b := s.fetch(s.args[4], 16); b != nil {
			if len(s.buf) > start {
				s.str(", ")
			}
			s.str("left ")
			left(s, b)
		}
	}
	s.char(')')
}

// pselectMask is pselect6's last argument: a pointer and a size.
var pselectMask = in(func(s *state, v uint64) {
	b := s.structAt(v, 16)
	if b == nil {
		return
	}
	s.str("{sigmask=")
	s.sigsetAt(u64(b), u64(b[8:]))
	s.str(", sigsetsize=")
	s.udec(u64(b[8:]))
	s.char('}')
})

var epollNames = &xlat{unknown: "EPOLL???", names: []named{
	{0x1, "EPOLLIN"}, {0x2, "EPOLLPRI"}, {0x4, "EPOLLOUT"}, {0x8, "EPOLLERR"}, {0x10, "EPOLLHUP"}, {0x20, "EPOLLNVAL"}, {0x40, "EPOLLRDNORM"},
	{0x80, "EPOLLRDBAND"}, {0x100, "EPOLLWRNORM"}, {0x200, "EPOLLWRBAND"}, {0x400, "EPOLLMSG"}, {0x2000, "EPOLLRDHUP"},
	{1 << 28, "EPOLLEXCLUSIVE"}, {1 << 29, "EPOLLWAKEUP"}, {1 << 30, "EPOLLONESHOT"}, {1 << 31, "EPOLLET"},
}}

// epollEvent writes a struct epoll_event, which is packed on amd64.
func (s *state) epollEvent(b []byte) {
	s.str("{events=")
	s.flags(epollNames, u32(b))
	s.str(", data={u32=")
	s.udec(u32(b[4:]))
	s.str(", u64=")
	s.udec(u64(b[4:]))
	s.str("}}")
}

var epollEventIn = in(func(s *state, v uint64) {
	if s.args[1]&0xffffffff == 2 { // EPOLL_CTL_DEL ignores it
		s.ptr(v)
		return
	}
	if b := s.structAt(v, 12); b != nil {
		s.epollEvent(b)
	}
})

// epollEvents is the array that epoll_wait filled.
var epollEvents = out(func(s *state, v uint64) {
	if s.skipOut(v) {
		return
	}
	n := uint64(s.ret)
	s.char('[')
	for i := range min(n, maxArray) {
		m := s.mark()
		b := s.fetch(v+12*i, 12)
		if i > 0 {
			s.str(", ")
		}
		if b == nil {
			s.ptr(v + 12*i)
			break
		}
		s.epollEvent(b)
		s.release(m)
	}
	if n > maxArray {
		s.str(", ...")
	}
	s.char(']')
})

var epollCloexec = flagsOf(&xlat{unknown: "EPOLL_???", names: []named{{0o2000000, "EPOLL_CLOEXEC"}}})

const (
	futexPrivate  = 128
	futexRealtime = 256
)

var futexOps = numbered("FUTEX_???", 0, prefixed("FUTEX_", "WAIT", "WAKE", "FD", "REQUEUE", "CMP_REQUEUE", "WAKE_OP", "LOCK_PI", "UNLOCK_PI",
	"TRYLOCK_PI", "WAIT_BITSET", "WAKE_BITSET", "WAIT_REQUEUE_PI", "CMP_REQUEUE_PI", "LOCK_PI2")...)

// futexOp writes the operation. strace has one name for an operation with its
// private flag, except for FUTEX_FD, and knows the clock flag only where the
// kernel does.
var futexOp = in(func(s *state, v uint64) {
	v &= 0xffffffff
	op := v &^ (futexPrivate | futexRealtime)
	n := futexOps.name(op)
	clock := v&futexRealtime != 0
	if n == "" || clock && op != 0 && op != 9 && op != 11 {
		s.hex(v)
		s.str(" /* FUTEX_??? */")
		return
	}
	s.str(n)
	if v&futexPrivate != 0 {
		if op == 2 {
			s.str("|FUTEX_PRIVATE_FLAG")
		} else {
			s.str("_PRIVATE")
		}
	}
	if clock {
		s.str("|FUTEX_CLOCK_REALTIME")
	}
})

var futexWakeOps = numbered("FUTEX_OP_???", 0, prefixed("FUTEX_OP_", "SET", "ADD", "OR", "ANDN", "XOR")...)

var futexCmps = numbered("FUTEX_OP_CMP_???", 0, prefixed("FUTEX_OP_CMP_", "EQ", "NE", "LT", "LE", "GT", "GE")...)

// futexWake writes FUTEX_WAKE_OP's encoded operation.
var futexWake = in(func(s *state, v uint64) {
	v &= 0xffffffff
	if v>>31 != 0 {
		s.str("FUTEX_OP_OPARG_SHIFT<<28|")
	}
	s.enum(futexWakeOps, v>>28&7)
	s.str("<<28|")
	s.hex(v >> 12 & 0xfff)
	s.str("<<12|")
	s.enum(futexCmps, v>>24&0xf)
	s.str("<<24|")
	s.hex(v & 0xfff)
})

var futexBitset = in(func(s *state, v uint64) {
	if uint32(v) == ^uint32(0) {
		s.str("FUTEX_BITSET_MATCH_ANY")
		return
	}
	s.hex(v & 0xffffffff)
})

var (
	futexWait  = []kind{addr, futexOp, uInt, timespecIn}
	futexForms = [...][]kind{
		0: futexWait, 1: {addr, futexOp, uInt}, 2: {addr, futexOp, uInt},
		3: {addr, futexOp, uInt, uInt, addr}, 4: {addr, futexOp, uInt, uInt, addr, uInt}, 5: {addr, futexOp, uInt, uInt, addr, futexWake},
		6: {addr, futexOp, nthArg(3, timespecIn)}, 7: {addr, futexOp}, 8: {addr, futexOp},
		9: {addr, futexOp, uInt, timespecIn, nthArg(5, futexBitset)}, 10: {addr, futexOp, uInt, nthArg(5, futexBitset)},
		11: {addr, futexOp, uInt, timespecIn, addr}, 12: {addr, futexOp, uInt, uInt, addr, uInt}, 13: {addr, futexOp, nthArg(3, timespecIn)},
	}
	futexOther = []kind{addr, futexOp, uInt, addr, addr, hexInt}
)

func futexForm(a *[6]uint64) []kind {
	if op := a[1] & 0xffffffff &^ (futexPrivate | futexRealtime); op < uint64(len(futexForms)) {
		return futexForms[op]
	}
	return futexOther
}

var pollCalls = map[string]*spec{
	"poll":         call(pollfds, uInt, decInt).notes((*state).pollReady),
	"ppoll":        call(pollfds, uInt, timespecIn, sigsetIn(4), size).notes((*state).ppollReady),
	"select":       call(decInt, fdSetIn, fdSetIn, fdSetIn, timevalIn).notes(func(s *state) { s.selectReady((*state).timeval) }),
	"pselect6":     call(decInt, fdSetIn, fdSetIn, fdSetIn, timespecIn, pselectMask).notes(func(s *state) { s.selectReady((*state).timespec) }),
	"epoll_create": call(decInt), "epoll_create1": call(epollCloexec),
	"epoll_ctl":    call(fd, enumOf(numbered("EPOLL_CTL_???", 1, "EPOLL_CTL_ADD", "EPOLL_CTL_DEL", "EPOLL_CTL_MOD")), fd, epollEventIn),
	"epoll_wait":   call(fd, epollEvents, decInt, decInt),
	"epoll_pwait":  call(fd, epollEvents, decInt, decInt, sigsetIn(5), size),
	"epoll_pwait2": call(fd, epollEvents, decInt, timespecIn, sigsetIn(5), size),
	"eventfd":      call(uInt),
	"eventfd2":     call(uInt, flagsOf(&xlat{unknown: "EFD_???", names: []named{{1, "EFD_SEMAPHORE"}, {0o2000000, "EFD_CLOEXEC"}, {0o4000, "EFD_NONBLOCK"}}})),
	"futex":        pick(futexForm),
}
