package strace

var prctlNames = &xlat{unknown: "PR_???", names: []named{
	{1, "PR_SET_PDEATHSIG"}, {2, "PR_GET_PDEATHSIG"}, {3, "PR_GET_DUMPABLE"}, {4, "PR_SET_DUMPABLE"}, {7, "PR_GET_KEEPCAPS"}, {8, "PR_SET_KEEPCAPS"},
	{15, "PR_SET_NAME"}, {16, "PR_GET_NAME"}, {21, "PR_GET_SECCOMP"}, {22, "PR_SET_SECCOMP"}, {23, "PR_CAPBSET_READ"}, {24, "PR_CAPBSET_DROP"},
	{25, "PR_GET_TSC"}, {26, "PR_SET_TSC"}, {27, "PR_GET_SECUREBITS"}, {28, "PR_SET_SECUREBITS"}, {29, "PR_SET_TIMERSLACK"}, {30, "PR_GET_TIMERSLACK"},
	{35, "PR_SET_MM"}, {36, "PR_SET_CHILD_SUBREAPER"}, {37, "PR_GET_CHILD_SUBREAPER"}, {38, "PR_SET_NO_NEW_PRIVS"}, {39, "PR_GET_NO_NEW_PRIVS"},
	{40, "PR_GET_TID_ADDRESS"}, {41, "PR_SET_THP_DISABLE"}, {42, "PR_GET_THP_DISABLE"}, {47, "PR_CAP_AMBIENT"}, {52, "PR_GET_SPECULATION_CTRL"},
	{53, "PR_SET_SPECULATION_CTRL"}, {57, "PR_SET_IO_FLUSHER"}, {58, "PR_GET_IO_FLUSHER"}, {59, "PR_SET_SYSCALL_USER_DISPATCH"}, {62, "PR_SCHED_CORE"},
	{0x53564d41, "PR_SET_VMA"}, {0x59616d61, "PR_SET_PTRACER"},
}}

var capNames = numbered("CAP_???", 0, prefixed("CAP_", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
	"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
	"AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE")...)

var (
	prOp    = enumOf(prctlNames)
	prNone  = []kind{prOp}
	prOther = []kind{prOp, hexLong, hexLong, hexLong, hexLong}
	prName  = in(func(s *state, v uint64) { s.cstring(v, 15) })
	prForms = map[uint64][]kind{
		1: {prOp, sigNum}, 2: {prOp, out(func(s *state, v uint64) {
			if b := s.structAt(v, 4); b != nil {
				s.char('[')
				s.sig(u32(b))
				s.char(']')
			}
		})},
		3: prNone, 4: {prOp, enumOf(numbered("SUID_DUMP_???", 0, "SUID_DUMP_DISABLE", "SUID_DUMP_USER", "SUID_DUMP_ROOT"))},
		7: prNone, 8: {prOp, uLong}, 15: {prOp, prName}, 16: {prOp, out(func(s *state, v uint64) {
			if !s.skipOut(v) {
				s.cstring(v, 16)
			}
		})},
		21: prNone, 22: {prOp, enumOf(numbered("SECCOMP_MODE_???", 0, "SECCOMP_MODE_DISABLED", "SECCOMP_MODE_STRICT", "SECCOMP_MODE_FILTER")), addr},
		23: {prOp, enumOf(capNames)}, 24: {prOp, enumOf(capNames)}, 27: prNone, 29: {prOp, decLong}, 30: prNone,
		36: {prOp, uLong}, 37: {prOp, outInts(1)}, 38: {prOp, uLong, hexLong, hexLong, hexLong}, 40: {prOp, outLongHex},
		41:         {prOp, uLong, hexLong, hexLong, hexLong},
		0x53564d41: {prOp, enumOf(numbered("PR_SET_VMA_???", 0, "PR_SET_VMA_ANON_NAME")), hexLong, uLong, cstring},
	}
	prctlSpec = pick(func(a *[6]uint64) []kind {
		if k, ok := prForms[a[0]&0xffffffff]; ok {
			return k
		}
		return prOther
	}).notes(func(s *state) {
		if s.args[0]&0xffffffff == 3 {
			if n := numbered("", 0, "SUID_DUMP_DISABLE", "SUID_DUMP_USER", "SUID_DUMP_ROOT").name(uint64(s.ret)); n != "" {
				s.char('(')
				s.str(n)
				s.char(')')
			}
		}
	})
)
