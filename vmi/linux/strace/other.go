package strace

// Calls that belong to no larger family.

var sysinfoOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 112)
	if b == nil {
		return
	}
	s.str("{uptime=")
	s.dec(i64(b))
	s.str(", loads=[")
	for i := range 3 {
		if i > 0 {
			s.str(", ")
		}
		s.udec(u64(b[8+8*i:]))
	}
	s.char(']')
	for i, n := range [...]string{"totalram", "freeram", "sharedram", "bufferram", "totalswap", "freeswap"} {
		s.str(", ")
		s.str(n)
		s.char('=')
		s.udec(u64(b[32+8*i:]))
	}
	s.str(", procs=")
	s.udec(u16(b[80:]))
	s.str(", totalhigh=")
	s.udec(u64(b[88:]))
	s.str(", freehigh=")
	s.udec(u64(b[96:]))
	s.str(", mem_unit=")
	s.udec(u32(b[104:]))
	s.char('}')
})

var membarrierNames = &xlat{unknown: "MEMBARRIER_CMD_???", names: []named{
	{0, "MEMBARRIER_CMD_QUERY"}, {1, "MEMBARRIER_CMD_GLOBAL"}, {2, "MEMBARRIER_CMD_GLOBAL_EXPEDITED"}, {4, "MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED"},
	{8, "MEMBARRIER_CMD_PRIVATE_EXPEDITED"}, {16, "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED"}, {32, "MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE"},
	{64, "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE"}, {128, "MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ"},
	{256, "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ"},
}}

var personaNames = &xlat{unknown: "PER_???", names: []named{
	{0x20000, "UNAME26"}, {0x40000, "ADDR_NO_RANDOMIZE"}, {0x80000, "FDPIC_FUNCPTRS"}, {0x100000, "MMAP_PAGE_ZERO"}, {0x200000, "ADDR_COMPAT_LAYOUT"},
	{0x400000, "READ_IMPLIES_EXEC"}, {0x800000, "ADDR_LIMIT_32BIT"}, {0x1000000, "SHORT_INODE"}, {0x2000000, "WHOLE_SECONDS"}, {0x4000000, "STICKY_TIMEOUTS"}, {0x8000000, "ADDR_LIMIT_3GB"},
}}

func (s *state) persona(v uint64) {
	v &= 0xffffffff
	if v == 0xffffffff {
		s.str("0xffffffff")
		return
	}
	switch v & 0xff {
	case 0:
		s.str("PER_LINUX")
	case 8:
		s.str("PER_LINUX32")
	default:
		s.hex(v & 0xff)
	}
	s.moreFlags(personaNames, v&^0xff)
}

var ipcNames = &xlat{names: []named{{0o1000, "IPC_CREAT"}, {0o2000, "IPC_EXCL"}, {0o4000, "SHM_HUGETLB"}, {0o10000, "SHM_NORESERVE"}}}

// ipcFlags are flags with permission bits below them.
var ipcFlags = in(func(s *state, v uint64) {
	v &= 0xffffffff
	if s.flagNames(ipcNames, &v, false) {
		s.char('|')
	}
	s.mode(v)
})

var ipcKey = in(func(s *state, v uint64) {
	if uint32(v) == 0 {
		s.str("IPC_PRIVATE")
		return
	}
	s.hex(v & 0xffffffff)
})

var grndFlags = flagsOf(bitNames("GRND_???", 0, "GRND_NONBLOCK", "GRND_RANDOM", "GRND_INSECURE"))

var otherCalls = map[string]*spec{
	"getrandom": call(randRet, size, grndFlags),
	"sysinfo":   call(sysinfoOut),
	"getcpu":    call(outUint, outUint, addr),
	"membarrier": call(enumOf(membarrierNames), hexInt).with(func(sp *spec) {
		sp.hexIf = func(a *[6]uint64) bool { return a[0] == 0 }
	}).notes(func(s *state) {
		if s.args[0] == 0 && s.ret != 0 {
			s.char('(')
			s.flags(membarrierNames, uint64(s.ret))
			s.char(')')
		}
	}),
	"personality": call(in((*state).persona)).returns(retHex).notes(func(s *state) {
		s.char('(')
		s.persona(uint64(s.ret))
		s.char(')')
	}),
	"shmget":                call(ipcKey, size, ipcFlags),
	"semget":                call(ipcKey, decInt, ipcFlags),
	"msgget":                call(ipcKey, ipcFlags),
	"sched_rr_get_interval": call(pid, timespecOut),
	"init_module":           call(addr, size, cstring),
	"finit_module":          call(fd, cstring, hexInt),
	"delete_module":         call(cstring, fdFlags),
	"process_vm_readv":      call(pid, iovOut(2), uLong, iovAddrs(4), uLong, uLong),
	"process_vm_writev":     call(pid, iovIn(2), uLong, iovAddrs(4), uLong, uLong),
	"ptrace":                pick(ptraceForm),
	"seccomp":               call(enumOf(numbered("SECCOMP_SET_MODE_???", 0, "SECCOMP_SET_MODE_STRICT", "SECCOMP_SET_MODE_FILTER", "SECCOMP_GET_ACTION_AVAIL", "SECCOMP_GET_NOTIF_SIZES")), seccompFlags, addr),
	"io_uring_setup":        call(uInt, addr),
	"io_uring_enter":        call(fd, uInt, uInt, hexInt, sigsetIn(5), size),
	"perf_event_open":       call(addr, pid, decInt, fd, hexLong),
}

// iovAddrs is a vector of buffers in another process, which are not shown.
func iovAddrs(i int) kind {
	return in(func(s *state, v uint64) {
		n := s.args[i]
		if v == 0 || n == 0 {
			s.ptr(v)
			return
		}
		b := s.fetch(v, int(16*min(n, maxArray)))
		if b == nil {
			s.ptr(v)
			return
		}
		s.char('[')
		for j := 0; len(b) >= 16; j, b = j+1, b[16:] {
			if j > 0 {
				s.str(", ")
			}
			s.str("{iov_base=")
			s.ptr(u64(b))
			s.str(", iov_len=")
			s.udec(u64(b[8:]))
			s.char('}')
		}
		if n > maxArray {
			s.str(", ...")
		}
		s.char(']')
	})
}

var ptraceReqs = func() *xlat {
	x := numbered("PTRACE_???", 0, prefixed("PTRACE_", "TRACEME", "PEEKTEXT", "PEEKDATA", "PEEKUSER", "POKETEXT", "POKEDATA", "POKEUSER", "CONT", "KILL",
		"SINGLESTEP", "", "", "GETREGS", "SETREGS", "GETFPREGS", "SETFPREGS", "ATTACH", "DETACH")...)
	x.names = append(x.names, named{24, "PTRACE_SYSCALL"})
	for i, n := range []string{"SETOPTIONS", "GETEVENTMSG", "GETSIGINFO", "SETSIGINFO", "GETREGSET", "SETREGSET", "SEIZE", "INTERRUPT", "LISTEN"} {
		x.names = append(x.names, named{0x4200 + uint64(i), "PTRACE_" + n})
	}
	return x
}()

var ptraceShort = []kind{enumOf(ptraceReqs)}
var ptraceFull = []kind{enumOf(ptraceReqs), pid, addr, hexLong}

func ptraceForm(a *[6]uint64) []kind {
	if a[0] == 0 {
		return ptraceShort
	}
	return ptraceFull
}

var seccompFlags = in(func(s *state, v uint64) {
	if s.args[0] != 1 {
		s.hex(v & 0xffffffff)
		return
	}
	s.flags(seccompFlagNames, v&0xffffffff)
})

var seccompFlagNames = bitNames("SECCOMP_FILTER_FLAG_???", 0, prefixed("SECCOMP_FILTER_FLAG_", "TSYNC", "LOG", "SPEC_ALLOW", "NEW_LISTENER", "TSYNC_ESRCH", "WAIT_KILLABLE_RECV")...)
