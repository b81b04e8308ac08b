package strace

// Calls on the address space (include/uapi/asm-generic/mman*.h,
// arch/x86/include/uapi/asm/mman.h).

var protNames = &xlat{unknown: "PROT_???", names: []named{
	{0, "PROT_NONE"}, {1, "PROT_READ"}, {2, "PROT_WRITE"}, {4, "PROT_EXEC"}, {8, "PROT_SEM"}, {1 << 24, "PROT_GROWSDOWN"}, {1 << 25, "PROT_GROWSUP"},
}}

var mapTypes = numbered("MAP_???", 0, "MAP_FILE", "MAP_SHARED", "MAP_PRIVATE", "MAP_SHARED_VALIDATE")

var mapNames = &xlat{names: []named{
	{0x10, "MAP_FIXED"}, {0x20, "MAP_ANONYMOUS"}, {0x40, "MAP_32BIT"}, {0x4000, "MAP_NORESERVE"}, {0x8000, "MAP_POPULATE"},
	{0x10000, "MAP_NONBLOCK"}, {0x100, "MAP_GROWSDOWN"}, {0x800, "MAP_DENYWRITE"}, {0x1000, "MAP_EXECUTABLE"}, {0x2000, "MAP_LOCKED"},
	{0x20000, "MAP_STACK"}, {0x40000, "MAP_HUGETLB"}, {0x80000, "MAP_SYNC"}, {0x100000, "MAP_FIXED_NOREPLACE"},
}}

func (s *state) mapFlags(v uint64) {
	v &= 0xffffffff
	huge := v >> 26 & 63
	v &^= 63 << 26
	kind, rest := v&0xf, v&^0xf
	switch n := mapTypes.name(kind); {
	case n != "":
		s.str(n)
	case rest == 0 && huge == 0:
		s.hex(kind)
		s.str(" /* MAP_??? */")
		return
	default:
		s.hex(kind)
	}
	s.moreFlags(mapNames, rest)
	s.shifted(huge, "MAP_HUGE_SHIFT")
}

func (s *state) shifted(v uint64, by string) {
	if v == 0 {
		return
	}
	s.char('|')
	s.udec(v)
	s.str("<<")
	s.str(by)
}

var (
	prot      = flagsOf(protNames)
	mapHow    = in((*state).mapFlags)
	madvNames = func() *xlat {
		x := numbered("MADV_???", 0, prefixed("MADV_", "NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "", "", "", "FREE", "REMOVE",
			"DONTFORK", "DOFORK", "MERGEABLE", "UNMERGEABLE", "HUGEPAGE", "NOHUGEPAGE", "DONTDUMP", "DODUMP", "WIPEONFORK", "KEEPONFORK",
			"COLD", "PAGEOUT", "POPULATE_READ", "POPULATE_WRITE", "DONTNEED_LOCKED", "COLLAPSE")...)
		x.names = append(x.names, named{100, "MADV_HWPOISON"}, named{101, "MADV_SOFT_OFFLINE"})
		return x
	}()
	msyncNames  = &xlat{unknown: "MS_???", names: []named{{4, "MS_SYNC"}, {1, "MS_ASYNC"}, {2, "MS_INVALIDATE"}}}
	mremapNames = bitNames("MREMAP_???", 0, "MREMAP_MAYMOVE", "MREMAP_FIXED", "MREMAP_DONTUNMAP")
	mclNames    = bitNames("MCL_???", 0, "MCL_CURRENT", "MCL_FUTURE", "MCL_ONFAULT")
	memfdNames  = bitNames("MFD_???", 0, "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "MFD_HUGETLB", "MFD_NOEXEC_SEAL", "MFD_EXEC")
)

// mincoreOut is one byte for each page.
var mincoreOut = out(func(s *state, v uint64) {
	if s.skipOut(v) {
		return
	}
	n := (s.args[1] + pageSize - 1) / pageSize
	b := s.fetch(v, int(min(n, maxArray)))
	if b == nil {
		s.ptr(v)
		return
	}
	s.char('[')
	for i, c := range b {
		if i > 0 {
			s.str(", ")
		}
		s.udec(uint64(c & 1))
	}
	if n > maxArray {
		s.str(", ...")
	}
	s.char(']')
})

var mremapShort = []kind{addr, size, size, flagsOf(mremapNames)}
var mremapFull = []kind{addr, size, size, flagsOf(mremapNames), addr}

var memoryCalls = map[string]*spec{
	"brk":      call(addr).returns(retHex).with(func(sp *spec) { sp.alwaysOK = true }),
	"mmap":     call(addr, size, prot, mapHow, fd, hexLong).returns(retHex),
	"munmap":   call(addr, size),
	"mprotect": call(addr, size, prot),
	"madvise":  call(addr, size, enumOf(madvNames)),
	"mremap": pick(func(a *[6]uint64) []kind {
		if a[3]&6 != 0 {
			return mremapFull
		}
		return mremapShort
	}).returns(retHex),
	"msync":         call(addr, size, flagsOf(msyncNames)),
	"mincore":       call(addr, size, mincoreOut),
	"mlock":         call(addr, size),
	"mlock2":        call(addr, size, flagsOf(bitNames("MLOCK_???", 0, "MLOCK_ONFAULT"))),
	"munlock":       call(addr, size),
	"mlockall":      call(flagsOf(mclNames)),
	"munlockall":    call(),
	"pkey_alloc":    call(hexInt, hexInt),
	"pkey_free":     call(decInt),
	"pkey_mprotect": call(addr, size, prot, decInt),
	"memfd_create": call(cstring, in(func(s *state, v uint64) {
		v &= 0xffffffff
		s.flags(memfdNames, v&^(63<<26))
		s.shifted(v>>26&63, "MFD_HUGE_SHIFT")
	})),
	"shmat": call(decInt, addr, hexInt).returns(retHex),
	"shmdt": call(addr),
	"mbind": call(addr, size, hexInt, addr, uLong, hexInt),
}
