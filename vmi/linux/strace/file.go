package strace

// Calls on files, file systems and their attributes.

// openForm is the form of an open whose mode is shown only if it counts.
func openForm(full []kind, flags int) func(*[6]uint64) []kind {
	short := full[:flags+1]
	return func(a *[6]uint64) []kind {
		if a[flags]&(oCreat|oTmpfile) != 0 {
			return full
		}
		return short
	}
}

var fileCalls = map[string]*spec{
	"read":              call(fd, bufRet, size),
	"write":             call(fd, bufLen(2), size),
	"pread64":           call(fd, bufRet, size, decLong),
	"pwrite64":          call(fd, bufLen(2), size, decLong),
	"readv":             call(fd, iovOut(2), uLong),
	"writev":            call(fd, iovIn(2), uLong),
	"preadv":            call(fd, iovOut(2), uLong, decLong),
	"pwritev":           call(fd, iovIn(2), uLong, decLong),
	"preadv2":           pick(fixedForm(fd, iovOut(2), uLong, decLong, nthArg(5, flagsOf(rwfNames)))),
	"pwritev2":          pick(fixedForm(fd, iovIn(2), uLong, decLong, nthArg(5, flagsOf(rwfNames)))),
	"open":              pick(openForm([]kind{path, openHow, octMode}, 1)),
	"openat":            pick(openForm([]kind{dirfd, path, openHow, octMode}, 2)),
	"openat2":           call(dirfd, path, openHow2, size),
	"creat":             call(path, octMode),
	"close":             call(fd),
	"close_range":       call(uInt, uInt, flagsOf(closeRangeNames)),
	"lseek":             call(fd, decLong, whence),
	"dup":               call(fd),
	"dup2":              call(fd, fd),
	"dup3":              call(fd, fd, fdFlags),
	"pipe":              call(outInts(2)),
	"pipe2":             call(outInts(2), fdFlags),
	"stat":              call(path, statOut),
	"lstat":             call(path, statOut),
	"fstat":             call(fd, statOut),
	"newfstatat":        call(dirfd, path, statOut, atFlags),
	"statx":             call(dirfd, path, in((*state).statxFlags), flagsOf(statxMaskNames), statxOut),
	"statfs":            call(path, statfsOut),
	"fstatfs":           call(fd, statfsOut),
	"access":            call(path, flagsOf(accessNames)),
	"faccessat":         call(dirfd, path, flagsOf(accessNames)),
	"faccessat2":        call(dirfd, path, flagsOf(accessNames), flagsOf(faccessatNames)),
	"chdir":             call(path),
	"fchdir":            call(fd),
	"chroot":            call(path),
	"getcwd":            call(strOut, size),
	"mkdir":             call(path, octMode),
	"mkdirat":           call(dirfd, path, octMode),
	"rmdir":             call(path),
	"unlink":            call(path),
	"unlinkat":          call(dirfd, path, atFlags),
	"link":              call(path, path),
	"linkat":            call(dirfd, path, dirfd, path, atFlags),
	"symlink":           call(path, path),
	"symlinkat":         call(path, dirfd, path),
	"rename":            call(path, path),
	"renameat":          call(dirfd, path, dirfd, path),
	"renameat2":         call(dirfd, path, dirfd, path, flagsOf(renameNames)),
	"readlink":          call(path, bufRet, size),
	"readlinkat":        call(dirfd, path, bufRet, size),
	"chmod":             call(path, octMode),
	"fchmod":            call(fd, octMode),
	"fchmodat":          call(dirfd, path, octMode),
	"fchmodat2":         call(dirfd, path, octMode, atFlags),
	"chown":             call(path, ownerID, ownerID),
	"lchown":            call(path, ownerID, ownerID),
	"fchown":            call(fd, ownerID, ownerID),
	"fchownat":          call(dirfd, path, ownerID, ownerID, atFlags),
	"umask":             call(octMode).returns(retOct),
	"mknod":             pick(mknodForm(path)),
	"mknodat":           pick(mknodForm(dirfd, path)),
	"truncate":          call(path, decLong),
	"ftruncate":         call(fd, decLong),
	"fallocate":         call(fd, flagsOf(fallocNames), decLong, decLong),
	"fadvise64":         call(fd, decLong, decLong, enumOf(fadviseNames)),
	"readahead":         call(fd, decLong, size),
	"sync_file_range":   call(fd, decLong, decLong, flagsOf(syncRangeNames)),
	"fsync":             call(fd),
	"fdatasync":         call(fd),
	"sync":              call(),
	"syncfs":            call(fd),
	"flock":             call(fd, flagsOf(flockNames)),
	"getdents64":        call(fd, direntsOut, uInt),
	"getdents":          call(fd, direntsOut, uInt),
	"sendfile":          call(fd, fd, inOutLong, size),
	"copy_file_range":   call(fd, inLong, fd, inLong, size, uInt),
	"splice":            call(fd, inLong, fd, inLong, size, flagsOf(spliceNames)),
	"tee":               call(fd, fd, size, flagsOf(spliceNames)),
	"vmsplice":          call(fd, iovIn(2), uLong, flagsOf(spliceNames)),
	"utime":             call(path, utimbufIn),
	"utimes":            call(path, timevalsIn),
	"futimesat":         call(dirfd, path, timevalsIn),
	"utimensat":         call(dirfd, path, utimesIn, atFlags),
	"getxattr":          call(path, cstring, bufRet, size),
	"lgetxattr":         call(path, cstring, bufRet, size),
	"fgetxattr":         call(fd, cstring, bufRet, size),
	"setxattr":          call(path, cstring, bufLen(3), size, flagsOf(xattrNames)),
	"lsetxattr":         call(path, cstring, bufLen(3), size, flagsOf(xattrNames)),
	"fsetxattr":         call(fd, cstring, bufLen(3), size, flagsOf(xattrNames)),
	"listxattr":         call(path, bufRet, size),
	"llistxattr":        call(path, bufRet, size),
	"flistxattr":        call(fd, bufRet, size),
	"removexattr":       call(path, cstring),
	"lremovexattr":      call(path, cstring),
	"fremovexattr":      call(fd, cstring),
	"mount":             call(path, path, mountType, mountHow, mountData),
	"umount2":           call(path, flagsOf(umountNames)),
	"pivot_root":        call(path, path),
	"swapon":            call(path, hexInt),
	"swapoff":           call(path),
	"inotify_init":      call(),
	"inotify_init1":     call(flagsOf(inotifyInitNames)),
	"inotify_add_watch": call(fd, path, flagsOf(inotifyNames)),
	"inotify_rm_watch":  call(fd, decInt),
	"fcntl":             fcntlSpec,
	"ioctl":             ioctlSpec,
}

func fixedForm(args ...kind) func(*[6]uint64) []kind {
	return func(*[6]uint64) []kind { return args }
}

// nthArg is a kind that shows raw argument i, whatever its position in the
// text.
func nthArg(i int, k kind) kind {
	put := k.put
	return kind{put: func(s *state, _ uint64) { put(s, s.args[i]) }, out: k.out}
}

// labelled is nthArg with strace's name= before it.
func labelled(label string, i int, k kind) kind {
	put := k.put
	return kind{put: func(s *state, _ uint64) { s.str(label); put(s, s.args[i]) }, out: k.out}
}

func mknodForm(first ...kind) func(*[6]uint64) []kind {
	full := append(first, fileMode, in((*state).device))
	n := len(first)
	return func(a *[6]uint64) []kind {
		switch a[n] & 0o170000 {
		case 0o020000, 0o060000:
			return full
		}
		return full[:n+1]
	}
}

// device writes a device number as user code encodes it.
func (s *state) device(v uint64) {
	major := v>>8&0xfff | v>>32&^0xfff
	minor := v&0xff | v>>12&^0xff&0xffffffff
	s.str("makedev(")
	s.hex(major)
	s.str(", ")
	s.hex(minor)
	s.char(')')
}

// statOut is struct stat of amd64 (arch/x86/include/uapi/asm/stat.h).
var statOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 144)
	if b == nil {
		return
	}
	mode := u32(b[24:])
	s.str("{st_mode=")
	s.fileMode(mode & 0xffff)
	if t := mode & 0o170000; t == 0o020000 || t == 0o060000 {
		s.str(", st_rdev=")
		s.device(u64(b[40:]))
	} else {
		s.str(", st_size=")
		s.dec(i64(b[48:]))
	}
	s.str(", ...}")
})

// statxOut is struct statx.
var statxOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 256)
	if b == nil {
		return
	}
	s.str("{stx_mask=")
	s.flags(statxMaskNames, u32(b))
	s.str(", stx_attributes=")
	s.flags(statxAttrNames, u64(b[8:]))
	s.str(", stx_mode=")
	s.fileMode(u16(b[28:]))
	s.str(", stx_size=")
	s.udec(u64(b[40:]))
	s.str(", ...}")
})

// statfsOut is struct statfs of 64-bit machines.
var statfsOut = out(func(s *state, v uint64) {
	b := s.structAt(v, 120)
	if b == nil {
		return
	}
	s.str("{f_type=")
	s.enum(fsTypes, u64(b))
	for i, n := range [...]string{"f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree"} {
		s.str(", ")
		s.str(n)
		s.char('=')
		s.udec(u64(b[8+8*i:]))
	}
	s.str(", f_fsid={val=[")
	s.hex(u32(b[56:]))
	s.str(", ")
	s.hex(u32(b[60:]))
	s.str("]}, f_namelen=")
	s.udec(u64(b[64:]))
	s.str(", f_frsize=")
	s.udec(u64(b[72:]))
	s.str(", f_flags=")
	s.flags(stFlagNames, u64(b[80:]))
	s.char('}')
})

// direntsOut shows how many directory entries there are, not which.
var direntsOut = out(func(s *state, v uint64) {
	if s.skipOut(v) {
		return
	}
	n, m := 0, s.mark()
	for at, end := uint64(0), uint64(s.ret); at+18 < end; {
		b := s.fetch(v+at+16, 2)
		if b == nil {
			s.ptr(v)
			return
		}
		step := u16(b)
		s.release(m)
		if step < 19 || at+step > end || n == 1<<14 {
			break
		}
		at += step
		n++
	}
	s.ptr(v)
	s.str(" /* ")
	s.dec(int64(n))
	if n == 1 {
		s.str(" entry */")
	} else {
		s.str(" entries */")
	}
})

var openHow2 = in(func(s *state, v uint64) {
	b := s.structAt(v, 24)
	if b == nil {
		return
	}
	s.str("{flags=")
	s.openFlags(u64(b))
	if u64(b)&(oCreat|oTmpfile) != 0 {
		s.str(", mode=")
		s.mode(u64(b[8:]))
	}
	s.str(", resolve=")
	s.flags(resolveNames, u64(b[16:]))
	s.char('}')
})

var resolveNames = bitNames("RESOLVE_???", 0, prefixed("RESOLVE_", "NO_XDEV", "NO_MAGICLINKS", "NO_SYMLINKS", "BENEATH", "IN_ROOT", "CACHED")...)

// mount's type and data mean nothing for these flags.
const mountNoType = 1<<5 | 1<<12 | 1<<13 | 1<<17 | 1<<18 | 1<<19 | 1<<20

func mountFlags(v uint64) uint64 {
	if v&0xffff0000 == 0xc0ed0000 {
		v &= 0xffff
	}
	return v
}

var (
	mountType = in(func(s *state, v uint64) {
		if mountFlags(s.args[3])&mountNoType != 0 {
			s.ptr(v)
			return
		}
		s.cstr(v)
	})
	mountHow = in(func(s *state, v uint64) {
		if v&0xffff0000 == 0xc0ed0000 {
			s.str("MS_MGC_VAL")
			s.moreFlags(mountNames, v&0xffff)
			return
		}
		s.flags(mountNames, v)
	})
	mountData = in(func(s *state, v uint64) {
		const remount = 1 << 5
		if f := mountFlags(s.args[3]); f&mountNoType != 0 && f&remount == 0 {
			s.ptr(v)
			return
		}
		s.cstr(v)
	})
)
