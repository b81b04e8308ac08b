package strace

// Signals and the calls on them.

var sigNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2",
	13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG",
	24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS", 32: "RTMIN",
}

// sigShort writes signal n without SIG.
func (s *state) sigShort(n uint64) {
	switch {
	case n >= 1 && n <= 32:
		s.str(sigNames[n])
	case n <= 64 && n > 32:
		s.str("RT_")
		s.udec(n - 32)
	default:
		s.udec(n)
	}
}

func (s *state) sig(v uint64) {
	if n := uint32(v); n >= 1 && n <= 64 {
		s.str("SIG")
		s.sigShort(uint64(n))
		return
	}
	s.dec(int64(int32(v)))
}

var sigNum = in((*state).sig)

// sigset writes the set of signals in mask: those in it, or with ~ those not
// in it where that is shorter.
func (s *state) sigset(mask uint64) {
	n := 0
	for m := mask; m != 0; m &= m - 1 {
		n++
	}
	// strace inverts a set of about two thirds.
	if n >= 42 {
		s.char('~')
		mask = ^mask
	}
	s.char('[')
	first := true
	for i := range uint64(64) {
		if mask>>i&1 == 0 {
			continue
		}
		if !first {
			s.char(' ')
		}
		first = false
		s.sigShort(i + 1)
	}
	s.char(']')
}

// sigsetAt writes the set at v, which counts only if its size is the kernel's.
func (s *state) sigsetAt(v, size uint64) {
	if size != 8 {
		s.ptr(v)
		return
	}
	if b := s.structAt(v, 8); b != nil {
		s.sigset(u64(b))
	}
}

func sigsetIn(i int) kind {
	return in(func(s *state, v uint64) { s.sigsetAt(v, s.args[i]) })
}

func sigsetOut(i int) kind {
	return out(func(s *state, v uint64) { s.sigsetAt(v, s.args[i]) })
}

var saFlagNames = &xlat{unknown: "SA_???", names: []named{
	{0x04000000, "SA_RESTORER"}, {0x08000000, "SA_ONSTACK"}, {0x10000000, "SA_RESTART"}, {0x20000000, "SA_INTERRUPT"}, {0x40000000, "SA_NODEFER"},
	{0x80000000, "SA_RESETHAND"}, {0x1, "SA_NOCLDSTOP"}, {0x2, "SA_NOCLDWAIT"}, {0x4, "SA_SIGINFO"}, {0x400, "SA_UNSUPPORTED"}, {0x800, "SA_EXPOSE_TAGBITS"},
}}

// sigaction writes the kernel's struct sigaction.
func (s *state) sigaction(v uint64) {
	b := s.structAt(v, 32)
	if b == nil {
		return
	}
	s.str("{sa_handler=")
	switch h := u64(b); h {
	case 0:
		s.str("SIG_DFL")
	case 1:
		s.str("SIG_IGN")
	case ^uint64(0):
		s.str("SIG_ERR")
	default:
		s.ptr(h)
	}
	s.str(", sa_mask=")
	s.sigset(u64(b[24:]))
	s.str(", sa_flags=")
	fl := u64(b[8:])
	s.flags(saFlagNames, fl)
	if fl&0x04000000 != 0 {
		s.str(", sa_restorer=")
		s.ptr(u64(b[16:]))
	}
	s.char('}')
}

// altstack writes a stack_t.
func (s *state) altstack(v uint64) {
	b := s.structAt(v, 24)
	if b == nil {
		return
	}
	s.str("{ss_sp=")
	s.ptr(u64(b))
	s.str(", ss_flags=")
	s.flags(ssNames, u32(b[8:]))
	s.str(", ss_size=")
	s.udec(u64(b[16:]))
	s.char('}')
}

var ssNames = &xlat{unknown: "SS_???", names: []named{{1, "SS_ONSTACK"}, {2, "SS_DISABLE"}, {1 << 31, "SS_AUTODISARM"}}}

// sigcontextMask is where rt_sigreturn's frame holds the signal mask, counted
// from the stack pointer at the call: struct ucontext's head and sigcontext.
const sigcontextMask = 40 + 256

var sigframe = in(func(s *state, _ uint64) {
	b := s.fetch(s.sp+sigcontextMask, 8)
	if b == nil {
		s.ptr(s.sp)
		return
	}
	s.str("{mask=")
	s.sigset(u64(b))
	s.char('}')
})

var sigHow = enumOf(numbered("SIG_???", 0, "SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"))

var signalCalls = map[string]*spec{
	"rt_sigaction":    call(sigNum, in((*state).sigaction), out((*state).sigaction), size),
	"rt_sigprocmask":  call(sigHow, sigsetIn(3), sigsetOut(3), size),
	"rt_sigreturn":    call(sigframe).with(func(sp *spec) { sp.alwaysOK = true }),
	"rt_sigsuspend":   call(sigsetIn(1), size),
	"rt_sigpending":   call(sigsetOut(1), size),
	"rt_sigtimedwait": call(sigsetIn(3), out((*state).siginfo), timespecIn, size),
	"rt_sigqueueinfo": call(pid, sigNum, in((*state).siginfo)),
	"sigaltstack":     call(in((*state).altstack), out((*state).altstack)),
	"kill":            call(pid, sigNum),
	"tkill":           call(pid, sigNum),
	"tgkill":          call(pid, pid, sigNum),
	"pause":           call(),
	"alarm":           call(uInt).returns(retUint),
	"signalfd":        call(fd, sigsetIn(2), size),
	"signalfd4":       call(fd, sigsetIn(2), size, flagsOf(&xlat{unknown: "SFD_???", names: []named{{0o2000000, "SFD_CLOEXEC"}, {0o4000, "SFD_NONBLOCK"}}})),
}

var chldCodes = numbered("CLD_???", 1, prefixed("CLD_", "EXITED", "KILLED", "DUMPED", "TRAPPED", "STOPPED", "CONTINUED")...)

// siginfo writes a siginfo_t as far as it says who sent the signal, or how a
// child ended.
func (s *state) siginfo(v uint64) {
	b := s.structAt(v, 128)
	if b == nil {
		return
	}
	signo, code := u32(b), i32(b[8:])
	if signo == 0 && code == 0 && u32(b[4:]) == 0 {
		s.str("{}")
		return
	}
	s.str("{si_signo=")
	s.sig(signo)
	s.str(", si_code=")
	if signo == 17 && code > 0 {
		s.enum(chldCodes, uint64(code)&0xffffffff)
	} else {
		switch code {
		case 0:
			s.str("SI_USER")
		case 0x80:
			s.str("SI_KERNEL")
		case -1:
			s.str("SI_QUEUE")
		case -2:
			s.str("SI_TIMER")
		case -6:
			s.str("SI_TKILL")
		default:
			s.dec(code)
		}
	}
	if e := u32(b[4:]); e != 0 {
		s.str(", si_errno=")
		s.udec(e)
	}
	s.str(", si_pid=")
	s.dec(i32(b[16:]))
	s.str(", si_uid=")
	s.udec(u32(b[20:]))
	if signo == 17 && code > 0 {
		s.str(", si_status=")
		if code == 1 {
			s.dec(i32(b[24:]))
		} else {
			s.sig(u32(b[24:]))
		}
		s.str(", si_utime=")
		s.dec(i64(b[32:]))
		s.str(", si_stime=")
		s.dec(i64(b[40:]))
	}
	s.char('}')
}
