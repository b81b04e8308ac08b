package strace

// Calls on processes, threads, identities and limits.

var cloneNames = bitNames("CLONE_???", 7, prefixed("CLONE_", "NEWTIME", "VM", "FS", "FILES", "SIGHAND", "PIDFD", "PTRACE", "VFORK", "PARENT", "THREAD",
	"NEWNS", "SYSVSEM", "SETTLS", "PARENT_SETTID", "CHILD_CLEARTID", "DETACHED", "UNTRACED", "CHILD_SETTID",
	"NEWCGROUP", "NEWUTS", "NEWIPC", "NEWUSER", "NEWPID", "NEWNET", "IO", "CLEAR_SIGHAND", "INTO_CGROUP")...)

const (
	cloneVM            = 0x100
	clonePidFD         = 0x1000
	cloneSetTLS        = 0x80000
	cloneParentSetTID  = 0x100000
	cloneChildClearTID = 0x200000
	cloneChildSetTID   = 0x1000000
)

var (
	cloneStack  = labelled("child_stack=", 1, addr)
	cloneFlags  = labelled("flags=", 0, in((*state).cloneFlags))
	cloneParent = kind{out: true, put: func(s *state, _ uint64) {
		s.str("parent_tid=")
		outInts(1).put(s, s.args[2])
	}}
	cloneTLS   = labelled("tls=", 4, addr)
	cloneChild = labelled("child_tidptr=", 3, addr)
)

// cloneForms holds the forms of clone by which of parent_tid, tls and
// child_tidptr count.
var cloneForms = func() (forms [8][]kind) {
	for i := range forms {
		f := []kind{cloneStack, cloneFlags}
		if i&1 != 0 {
			f = append(f, cloneParent)
		}
		if i&2 != 0 {
			f = append(f, cloneTLS)
		}
		if i&4 != 0 {
			f = append(f, cloneChild)
		}
		forms[i] = f
	}
	return
}()

func cloneForm(a *[6]uint64) []kind {
	i := 0
	if a[0]&(cloneParentSetTID|clonePidFD) != 0 {
		i |= 1
	}
	if a[0]&cloneSetTLS != 0 {
		i |= 2
	}
	if a[0]&(cloneChildClearTID|cloneChildSetTID) != 0 {
		i |= 4
	}
	return cloneForms[i]
}

func (s *state) cloneFlags(v uint64) {
	sig := v & 0xff
	v &= 0xffffff00
	if v != 0 {
		s.flags(cloneNames, v)
		if sig == 0 {
			return
		}
		s.char('|')
	} else if sig == 0 {
		s.char('0')
		return
	}
	s.sig(sig)
}

// cloneArgs writes struct clone_args.
var cloneArgs = in(func(s *state, v uint64) {
	n := s.args[1]
	if n < 64 || n > 88 {
		s.ptr(v)
		return
	}
	b := s.structAt(v, int(n))
	if b == nil {
		return
	}
	fl := u64(b)
	s.str("{flags=")
	s.flags(cloneNames, fl)
	if fl&clonePidFD != 0 {
		s.str(", pidfd=")
		s.ptr(u64(b[8:]))
	}
	if fl&(cloneChildSetTID|cloneChildClearTID) != 0 {
		s.str(", child_tid=")
		s.ptr(u64(b[16:]))
	}
	if fl&cloneParentSetTID != 0 {
		s.str(", parent_tid=")
		s.ptr(u64(b[24:]))
	}
	s.str(", exit_signal=")
	s.sig(u64(b[32:]))
	s.str(", stack=")
	s.ptr(u64(b[40:]))
	s.str(", stack_size=")
	s.hex(u64(b[48:]))
	if fl&cloneSetTLS != 0 {
		s.str(", tls=")
		s.ptr(u64(b[56:]))
	}
	s.char('}')
})

// clone3Out adds to clone_args what the kernel filled in.
var clone3Out = kind{out: true, glue: true, put: func(s *state, _ uint64) {
	v := s.args[0]
	if s.errno != 0 || v == 0 || s.args[1] < 64 {
		return
	}
	b := s.fetch(v, 64)
	if b == nil {
		return
	}
	fl, wrote := u64(b), false
	for _, f := range [...]struct {
		flag uint64
		at   int
		name string
	}{{clonePidFD, 8, "pidfd="}, {cloneParentSetTID, 24, "parent_tid="}} {
		if fl&f.flag == 0 {
			continue
		}
		w := s.fetch(u64(b[f.at:]), 4)
		if w == nil {
			continue
		}
		if wrote {
			s.str(", ")
		} else {
			s.str(" => {")
		}
		wrote = true
		s.str(f.name)
		s.char('[')
		s.dec(i32(w))
		s.char(']')
	}
	if wrote {
		s.char('}')
	}
}}

var waitOpts = flagsOf(&xlat{unknown: "W???", names: []named{
	{1, "WNOHANG"}, {4, "WEXITED"}, {2, "WSTOPPED"}, {8, "WCONTINUED"}, {1 << 24, "WNOWAIT"},
	{1 << 31, "__WCLONE"}, {1 << 30, "__WALL"}, {1 << 29, "__WNOTHREAD"},
}})

// waitStatus is the status of a child that wait4 reported.
var waitStatus = out(func(s *state, v uint64) {
	if v == 0 || s.errno != 0 || s.ret == 0 {
		s.ptr(v)
		return
	}
	b := s.structAt(v, 4)
	if b == nil {
		return
	}
	st := u32(b)
	s.str("[{")
	switch {
	case st&0x7f == 0:
		s.str("WIFEXITED(s) && WEXITSTATUS(s) == ")
		s.udec(st >> 8 & 0xff)
		st &^= 0xff00
	case st&0xff == 0x7f:
		s.str("WIFSTOPPED(s) && WSTOPSIG(s) == ")
		s.sig(st >> 8 & 0xff)
		st &^= 0xff7f
	case st == 0xffff:
		s.str("WIFCONTINUED(s)")
		st = 0
	default:
		s.str("WIFSIGNALED(s) && WTERMSIG(s) == ")
		s.sig(st & 0x7f)
		if st&0x80 != 0 {
			s.str(" && WCOREDUMP(s)")
		}
		st &^= 0xff
	}
	if st != 0 {
		s.str(" | ")
		s.hex(st)
	}
	s.str("}]")
})

var rusageOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 144)
	if b == nil {
		return
	}
	s.str("{ru_utime=")
	s.timeval(b)
	s.str(", ru_stime=")
	s.timeval(b[16:])
	s.str(", ...}")
})

// waitRusage is rusageOut for a call that reports nothing with 0.
var waitRusage = out(func(s *state, v uint64) {
	if s.ret == 0 {
		s.ptr(v)
		return
	}
	rusageOut.put(s, v)
})

var rlimitNames = numbered("RLIMIT_???", 0, prefixed("RLIMIT_", "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
	"LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME")...)

var rlimit = enumOf(rlimitNames)

func (s *state) rlim(v uint64) {
	switch {
	case v == ^uint64(0):
		s.str("RLIM64_INFINITY")
	case v > 1024 && v%1024 == 0:
		s.udec(v / 1024)
		s.str("*1024")
	default:
		s.udec(v)
	}
}

func (s *state) rlimits(v uint64) {
	b := s.structAt(v, 16)
	if b == nil {
		return
	}
	s.str("{rlim_cur=")
	s.rlim(u64(b))
	s.str(", rlim_max=")
	s.rlim(u64(b[8:]))
	s.char('}')
}

var utsOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 390)
	if b == nil {
		return
	}
	s.str("{sysname=")
	s.fixed(b[:65])
	s.str(", nodename=")
	s.fixed(b[65:130])
	s.str(", ...}")
})

// cpus is a CPU mask of the given number of bytes.
func (s *state) cpus(v, n uint64) {
	if n > 1024 {
		s.ptr(v)
		return
	}
	b := s.structAt(v, int(n))
	if b == nil {
		return
	}
	s.char('[')
	first := true
	for i, c := range b {
		for bit := range 8 {
			if c>>bit&1 == 0 {
				continue
			}
			if !first {
				s.char(' ')
			}
			first = false
			s.dec(int64(8*i + bit))
		}
	}
	s.char(']')
}

var archNames = &xlat{unknown: "ARCH_???", names: []named{
	{0x1001, "ARCH_SET_GS"}, {0x1002, "ARCH_SET_FS"}, {0x1003, "ARCH_GET_FS"}, {0x1004, "ARCH_GET_GS"}, {0x1011, "ARCH_GET_CPUID"},
	{0x1012, "ARCH_SET_CPUID"}, {0x1021, "ARCH_GET_XCOMP_SUPP"}, {0x1022, "ARCH_GET_XCOMP_PERM"}, {0x1023, "ARCH_REQ_XCOMP_PERM"},
	{0x2001, "ARCH_MAP_VDSO_X32"}, {0x2002, "ARCH_MAP_VDSO_32"}, {0x2003, "ARCH_MAP_VDSO_64"},
}}

var (
	archCode   = enumOf(archNames)
	archPlain  = []kind{archCode, hexLong}
	archGet    = []kind{archCode, outLongHex}
	archGetCPU = []kind{archCode}
	outLongHex = out(func(s *state, v uint64) {
		if b := s.structAt(v, 8); b != nil {
			s.char('[')
			s.hex(u64(b))
			s.char(']')
		}
	})
)

func archForm(a *[6]uint64) []kind {
	switch a[0] & 0xffffffff {
	case 0x1003, 0x1004, 0x1021, 0x1022:
		return archGet
	case 0x1011:
		return archGetCPU
	}
	return archPlain
}

var schedNames = &xlat{unknown: "SCHED_???", names: []named{
	{0, "SCHED_OTHER"}, {1, "SCHED_FIFO"}, {2, "SCHED_RR"}, {3, "SCHED_BATCH"}, {4, "SCHED_ISO"}, {5, "SCHED_IDLE"}, {6, "SCHED_DEADLINE"}, {7, "SCHED_EXT"},
}}

var schedParam = in(func(s *state, v uint64) {
	if b := s.structAt(v, 4); b != nil {
		s.char('[')
		s.dec(i32(b))
		s.char(']')
	}
})

var gidArray = out(func(s *state, v uint64) {
	n := uint64(s.ret)
	if s.args[0] == 0 || s.skipArray(v, n) {
		if s.args[0] == 0 {
			s.ptr(v)
		}
		return
	}
	s.u32Array(v, n)
})

var gidArrayIn = in(func(s *state, v uint64) {
	if v == 0 {
		s.ptr(v)
		return
	}
	s.u32Array(v, s.args[0]&0xffffffff)
})

func (s *state) skipArray(v, n uint64) bool {
	if s.skipOut(v) {
		return true
	}
	if n == 0 {
		s.str("[]")
		return true
	}
	return false
}

func (s *state) u32Array(v, n uint64) {
	b := s.fetch(v, int(4*min(n, maxArray)))
	if b == nil {
		s.ptr(v)
		return
	}
	s.char('[')
	for i := range min(n, maxArray) {
		if i > 0 {
			s.str(", ")
		}
		s.udec(u32(b[4*i:]))
	}
	if n > maxArray {
		s.str(", ...")
	}
	s.char(']')
}

var resIDs = call(outUint, outUint, outUint)

var processCalls = map[string]*spec{
	"fork":       call(),
	"vfork":      call(),
	"clone":      pick(cloneForm),
	"clone3":     call(cloneArgs, clone3Out, nthArg(1, size)),
	"execve":     call(path, argv, envp).with(func(sp *spec) { sp.newImage = true }),
	"execveat":   call(dirfd, path, argv, envp, atFlags).with(func(sp *spec) { sp.newImage = true }),
	"exit":       call(decInt).with(func(sp *spec) { sp.noReturn = true }),
	"exit_group": call(decInt).with(func(sp *spec) { sp.noReturn = true }),
	"wait4":      call(pid, waitStatus, waitOpts, waitRusage),
	"waitid":     call(enumOf(numbered("P_???", 0, "P_ALL", "P_PID", "P_PGID", "P_PIDFD")), decInt, out((*state).siginfo), waitOpts, rusageOut),
	"getpid":     call(), "getppid": call(), "gettid": call(), "getpgrp": call(), "setsid": call(),
	"getpgid": call(pid), "setpgid": call(pid, pid), "getsid": call(pid),
	"getuid": call().returns(retUint), "geteuid": call().returns(retUint), "getgid": call().returns(retUint), "getegid": call().returns(retUint),
	"setuid": call(ownerID), "setgid": call(ownerID), "setfsuid": call(ownerID), "setfsgid": call(ownerID),
	"setreuid": call(ownerID, ownerID), "setregid": call(ownerID, ownerID),
	"setresuid": call(ownerID, ownerID, ownerID), "setresgid": call(ownerID, ownerID, ownerID),
	"getresuid": resIDs, "getresgid": resIDs,
	"getgroups": call(decInt, gidArray),
	"setgroups": call(decInt, gidArrayIn),
	"getrlimit": call(rlimit, out((*state).rlimits)),
	"setrlimit": call(rlimit, in((*state).rlimits)),
	"prlimit64": call(pid, rlimit, in((*state).rlimits), out((*state).rlimits)),
	"getrusage": call(in(func(s *state, v uint64) {
		switch int32(v) {
		case 0:
			s.str("RUSAGE_SELF")
		case 1:
			s.str("RUSAGE_THREAD")
		case -1:
			s.str("RUSAGE_CHILDREN")
		case -2:
			s.str("RUSAGE_BOTH")
		default:
			s.hex(v & 0xffffffff)
			s.str(" /* RUSAGE_??? */")
		}
	}), rusageOut),
	"uname":           call(utsOut),
	"sethostname":     call(bufLen(1), size),
	"setdomainname":   call(bufLen(1), size),
	"arch_prctl":      pick(archForm),
	"set_tid_address": call(addr),
	"set_robust_list": call(addr, size),
	"get_robust_list": call(pid, outLongHex, outU64),
	"rseq":            call(addr, hexInt, flagsOf(bitNames("RSEQ_FLAG_???", 0, "RSEQ_FLAG_UNREGISTER")), hexInt),
	"unshare":         call(flagsOf(cloneNames)),
	"setns":           call(fd, flagsOf(cloneNames)),
	"getpriority":     call(prioWhich, decInt),
	"setpriority":     call(prioWhich, decInt, decInt),
	"sched_yield":     call(),
	"sched_getaffinity": call(pid, size, out(func(s *state, v uint64) {
		if s.skipOut(v) {
			return
		}
		s.cpus(v, uint64(s.ret))
	})),
	"sched_setaffinity":      call(pid, size, in(func(s *state, v uint64) { s.cpus(v, s.args[1]) })),
	"sched_getscheduler":     call(pid).notes(func(s *state) { s.char('('); s.enum(schedNames, uint64(s.ret)); s.char(')') }),
	"sched_setscheduler":     call(pid, enumOf(schedNames), schedParam),
	"sched_getparam":         call(pid, outInts(1)),
	"sched_setparam":         call(pid, schedParam),
	"sched_get_priority_max": call(enumOf(schedNames)),
	"sched_get_priority_min": call(enumOf(schedNames)),
	"pidfd_open":             call(pid, flagsOf(&xlat{unknown: "PIDFD_???", names: []named{{0o4000, "PIDFD_NONBLOCK"}}})),
	"pidfd_getfd":            call(fd, fd, hexInt),
	"pidfd_send_signal":      call(fd, sigNum, in((*state).siginfo), hexInt),
	"prctl":                  prctlSpec,
	"capget":                 call(capHeader, out((*state).capData)), "capset": call(capHeader, in((*state).capData)),
	"kcmp":            call(pid, pid, hexInt, hexLong, hexLong),
	"acct":            call(path),
	"vhangup":         call(),
	"restart_syscall": call(in(func(s *state, _ uint64) { s.str("<... resuming interrupted system call ...>") })),
}

var prioWhich = enumOf(numbered("PRIO_???", 0, "PRIO_PROCESS", "PRIO_PGRP", "PRIO_USER"))

var capHeader = in(func(s *state, v uint64) {
	b := s.structAt(v, 8)
	if b == nil {
		return
	}
	s.str("{version=")
	s.enum(capVersions, u32(b))
	s.str(", pid=")
	s.dec(i32(b[4:]))
	s.char('}')
})

var capVersions = &xlat{unknown: "_LINUX_CAPABILITY_VERSION_???", names: []named{
	{0x19980330, "_LINUX_CAPABILITY_VERSION_1"}, {0x20071026, "_LINUX_CAPABILITY_VERSION_2"}, {0x20080522, "_LINUX_CAPABILITY_VERSION_3"},
}}

// capData writes the three sets of capabilities, two words each from the
// second version on.
func (s *state) capData(v uint64) {
	words := 2
	if h := s.fetch(s.args[0], 4); h != nil && u32(h) == 0x19980330 {
		words = 1
	}
	b := s.structAt(v, 12*words)
	if b == nil {
		return
	}
	for i, n := range [...]string{"{effective=", ", permitted=", ", inheritable="} {
		s.str(n)
		set := u32(b[4*i:])
		if words == 2 {
			set |= u32(b[12+4*i:]) << 32
		}
		s.capSet(set)
	}
	s.char('}')
}

func (s *state) capSet(set uint64) {
	if set == 0 {
		s.char('0')
		return
	}
	some := false
	for _, c := range capNames.names {
		if set>>c.v&1 == 0 {
			continue
		}
		if some {
			s.char('|')
		}
		some = true
		s.str("1<<")
		s.str(c.n)
		set &^= 1 << c.v
	}
	if set != 0 {
		if some {
			s.char('|')
		}
		s.hex(set)
	}
}
