package strace

import "time"

// Calls on clocks, timers and sleeping.

// timespec writes the 16 bytes of a struct timespec.
func (s *state) timespec(b []byte) {
	s.str("{tv_sec=")
	s.dec(i64(b))
	s.str(", tv_nsec=")
	s.dec(i64(b[8:]))
	s.char('}')
}

// timeval writes the 16 bytes of a struct timeval.
func (s *state) timeval(b []byte) {
	s.str("{tv_sec=")
	s.dec(i64(b))
	s.str(", tv_usec=")
	s.dec(i64(b[8:]))
	s.char('}')
}

func (s *state) timespecAt(v uint64) {
	if b := s.structAt(v, 16); b != nil {
		s.timespec(b)
	}
}

func (s *state) timevalAt(v uint64) {
	if b := s.structAt(v, 16); b != nil {
		s.timeval(b)
	}
}

var (
	timespecIn  = in((*state).timespecAt)
	timespecOut = out((*state).timespecAt)
	timevalIn   = in((*state).timevalAt)
	timevalOut  = out((*state).timevalAt)
)

// remOut is the time left of a sleep: filled in only if a signal cut it short.
var remOut = out(func(s *state, v uint64) {
	switch s.errno {
	case 4, 512, 514, 516:
		if v != 0 {
			s.errno, s.out = 0, false
			s.timespecAt(v)
			return
		}
	}
	s.ptr(v)
})

// dateNote adds a time stamp as a date, in UTC: the guest's zone is not known.
// fraction is the layout of the part below a second.
func (s *state) dateNote(sec, nsec int64, fraction string) {
	if sec == 0 && nsec == 0 || nsec < 0 || nsec > 999999999 || sec > 1<<40 || sec < -1<<40 {
		return
	}
	t := time.Unix(sec, nsec).UTC()
	s.str(" /* ")
	s.buf = t.AppendFormat(s.buf, "2006-01-02T15:04:05")
	if nsec != 0 {
		s.buf = t.AppendFormat(s.buf, fraction)
	}
	s.str("+0000 */")
}

var timevalsIn = in(func(s *state, v uint64) {
	b := s.structAt(v, 32)
	if b == nil {
		return
	}
	s.char('[')
	for i := range 2 {
		if i > 0 {
			s.str(", ")
		}
		s.timeval(b[16*i:])
		s.dateNote(i64(b[16*i:]), i64(b[16*i+8:])*1000, ".000000")
	}
	s.char(']')
})

var utimesIn = in(func(s *state, v uint64) {
	b := s.structAt(v, 32)
	if b == nil {
		return
	}
	s.char('[')
	for i := range 2 {
		if i > 0 {
			s.str(", ")
		}
		switch t := b[16*i:]; i64(t[8:]) {
		case 0x3fffffff:
			s.str("UTIME_NOW")
		case 0x3ffffffe:
			s.str("UTIME_OMIT")
		default:
			s.timespec(t)
			s.dateNote(i64(t), i64(t[8:]), ".000000000")
		}
	}
	s.char(']')
})

var clockNames = numbered("CLOCK_???", 0, prefixed("CLOCK_", "REALTIME", "MONOTONIC", "PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID", "MONOTONIC_RAW",
	"REALTIME_COARSE", "MONOTONIC_COARSE", "BOOTTIME", "REALTIME_ALARM", "BOOTTIME_ALARM", "SGI_CYCLE", "TAI")...)

var clockID = enumOf(clockNames)

var timerAbs = flagsOf(bitNames("TIMER_???", 0, "TIMER_ABSTIME"))

func (s *state) itimerval(v uint64) {
	if b := s.structAt(v, 32); b != nil {
		s.str("{it_interval=")
		s.timeval(b)
		s.str(", it_value=")
		s.timeval(b[16:])
		s.char('}')
	}
}

func (s *state) itimerspec(v uint64) {
	if b := s.structAt(v, 32); b != nil {
		s.str("{it_interval=")
		s.timespec(b)
		s.str(", it_value=")
		s.timespec(b[16:])
		s.char('}')
	}
}

var itimerWhich = enumOf(numbered("ITIMER_???", 0, "ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"))

var timezoneOut = out(func(s *state, v uint64) {
	if b := s.structAt(v, 8); b != nil {
		s.str("{tz_minuteswest=")
		s.dec(i32(b))
		s.str(", tz_dsttime=")
		s.dec(i32(b[4:]))
		s.char('}')
	}
})

var timesOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 32)
	if b == nil {
		return
	}
	for i, n := range [...]string{"{tms_utime=", ", tms_stime=", ", tms_cutime=", ", tms_cstime="} {
		s.str(n)
		s.dec(i64(b[8*i:]))
	}
	s.char('}')
})

// sigevent writes the part of a struct sigevent that says whom to tell.
var sigeventIn = in(func(s *state, v uint64) {
	b := s.structAt(v, 64)
	if b == nil {
		return
	}
	s.char('{')
	if p := u64(b); p != 0 {
		s.str("sigev_value={sival_int=")
		s.dec(i32(b))
		s.str(", sival_ptr=")
		s.ptr(p)
		s.str("}, ")
	}
	s.str("sigev_signo=")
	s.sig(u32(b[8:]))
	s.str(", sigev_notify=")
	s.enum(sigevNames, u32(b[12:]))
	if u32(b[12:]) == 4 {
		s.str(", sigev_notify_thread_id=")
		s.dec(i32(b[16:]))
	}
	s.char('}')
})

var sigevNames = numbered("SIGEV_???", 0, "SIGEV_SIGNAL", "SIGEV_NONE", "SIGEV_THREAD", "", "SIGEV_THREAD_ID")

var timeCalls = map[string]*spec{
	"nanosleep":       call(timespecIn, remOut),
	"clock_nanosleep": call(clockID, timerAbs, timespecIn, remOut),
	"clock_gettime":   call(clockID, timespecOut),
	"clock_getres":    call(clockID, timespecOut),
	"clock_settime":   call(clockID, timespecIn),
	"gettimeofday":    call(timevalOut, timezoneOut),
	"settimeofday":    call(timevalIn, addr),
	"time": call(out(func(s *state, v uint64) {
		if b := s.structAt(v, 8); b != nil {
			s.char('[')
			s.dec(i64(b))
			s.dateNote(i64(b), 0, "")
			s.char(']')
		}
	})).notes(func(s *state) {
		n := len(s.buf)
		if s.dateNote(s.ret, 0, ""); len(s.buf) > n {
			copy(s.buf[n:], "("+string(s.buf[n+4:len(s.buf)-3])+")")
			s.buf = s.buf[:len(s.buf)-5]
		}
	}),
	"times":            call(timesOut).with(func(sp *spec) { sp.alwaysOK = true }),
	"getitimer":        call(itimerWhich, out((*state).itimerval)),
	"setitimer":        call(itimerWhich, in((*state).itimerval), out((*state).itimerval)),
	"timer_create":     call(clockID, sigeventIn, outInts(1)),
	"timer_settime":    call(decInt, timerAbs, in((*state).itimerspec), out((*state).itimerspec)),
	"timer_gettime":    call(decInt, out((*state).itimerspec)),
	"timer_getoverrun": call(decInt),
	"timer_delete":     call(decInt),
	"timerfd_create":   call(clockID, flagsOf(&xlat{unknown: "TFD_???", names: []named{{0o2000000, "TFD_CLOEXEC"}, {0o4000, "TFD_NONBLOCK"}}})),
	"timerfd_settime":  call(fd, flagsOf(bitNames("TFD_???", 0, "TFD_TIMER_ABSTIME", "TFD_TIMER_CANCEL_ON_SET")), in((*state).itimerspec), out((*state).itimerspec)),
	"timerfd_gettime":  call(fd, out((*state).itimerspec)),
	"adjtimex":         call(addr),
	"clock_adjtime":    call(clockID, addr),
}

var utimbufIn = in(func(s *state, v uint64) {
	if b := s.structAt(v, 16); b != nil {
		s.str("{actime=")
		s.dec(i64(b))
		s.dateNote(i64(b), 0, "")
		s.str(", modtime=")
		s.dec(i64(b[8:]))
		s.dateNote(i64(b[8:]), 0, "")
		s.char('}')
	}
})
