package strace

// Flags and values of calls on files (include/uapi/asm-generic/fcntl.h,
// include/uapi/linux/{fcntl,stat,fs,falloc,mount,inotify,memfd}.h).

var openAccess = numbered("", 0, "O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")

var openFlags = &xlat{unknown: "O_???", names: []named{
	{0o100, "O_CREAT"}, {0o200, "O_EXCL"}, {0o400, "O_NOCTTY"}, {0o1000, "O_TRUNC"},
	{0o2000, "O_APPEND"}, {0o4000, "O_NONBLOCK"}, {0o4010000, "O_SYNC"}, {0o4000000, "__O_SYNC"},
	{0o10000, "O_DSYNC"}, {0o40000, "O_DIRECT"}, {0o100000, "O_LARGEFILE"}, {0o400000, "O_NOFOLLOW"},
	{0o1000000, "O_NOATIME"}, {0o2000000, "O_CLOEXEC"}, {0o10000000, "O_PATH"},
	{0o20200000, "O_TMPFILE"}, {0o20000000, "__O_TMPFILE"}, {0o200000, "O_DIRECTORY"},
	{0o20000, "FASYNC"},
}}

const (
	oCreat   = 0o100
	oTmpfile = 0o20000000
)

// openFlags writes open's flags: the access mode first, which is no bit set.
func (s *state) openFlags(v uint64) {
	v &= 0xffffffff
	s.str(openAccess.name(v & 3))
	s.moreFlags(openFlags, v&^3)
}

var openHow = in((*state).openFlags)

// fdFlags are open's flags where a call takes no access mode.
var fdFlags = flagsOf(openFlags)

var atFlags = flagsOf(atNames)

var atNames = &xlat{unknown: "AT_???", names: []named{
	{0x100, "AT_SYMLINK_NOFOLLOW"}, {0x200, "AT_REMOVEDIR"}, {0x400, "AT_SYMLINK_FOLLOW"},
	{0x800, "AT_NO_AUTOMOUNT"}, {0x1000, "AT_EMPTY_PATH"}, {0x8000, "AT_RECURSIVE"},
}}

var accessNames = &xlat{unknown: "?_OK", names: []named{{0, "F_OK"}, {4, "R_OK"}, {2, "W_OK"}, {1, "X_OK"}}}

var faccessatNames = &xlat{unknown: "AT_???", names: []named{
	{0x100, "AT_SYMLINK_NOFOLLOW"}, {0x200, "AT_EACCESS"}, {0x1000, "AT_EMPTY_PATH"},
}}

var whence = enumOf(numbered("SEEK_???", 0, "SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE"))

var fallocNames = bitNames("FALLOC_FL_???", 0, prefixed("FALLOC_FL_", "KEEP_SIZE", "PUNCH_HOLE", "NO_HIDE_STALE",
	"COLLAPSE_RANGE", "ZERO_RANGE", "INSERT_RANGE", "UNSHARE_RANGE")...)

var fadviseNames = numbered("POSIX_FADV_???", 0, prefixed("POSIX_FADV_", "NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "NOREUSE")...)

var renameNames = bitNames("RENAME_???", 0, "RENAME_NOREPLACE", "RENAME_EXCHANGE", "RENAME_WHITEOUT")

var flockNames = &xlat{unknown: "LOCK_???", names: []named{
	{1, "LOCK_SH"}, {2, "LOCK_EX"}, {4, "LOCK_NB"}, {8, "LOCK_UN"}, {32, "LOCK_MAND"}, {192, "LOCK_RW"}, {64, "LOCK_READ"}, {128, "LOCK_WRITE"},
}}

var syncRangeNames = bitNames("SYNC_FILE_RANGE_???", 0, prefixed("SYNC_FILE_RANGE_", "WAIT_BEFORE", "WRITE", "WAIT_AFTER")...)

var spliceNames = bitNames("SPLICE_F_???", 0, prefixed("SPLICE_F_", "MOVE", "NONBLOCK", "MORE", "GIFT")...)

var rwfNames = bitNames("RWF_???", 0, prefixed("RWF_", "HIPRI", "DSYNC", "SYNC", "NOWAIT", "APPEND")...)

var xattrNames = bitNames("XATTR_???", 0, "XATTR_CREATE", "XATTR_REPLACE")

var umountNames = bitNames("MNT_???", 0, "MNT_FORCE", "MNT_DETACH", "MNT_EXPIRE", "UMOUNT_NOFOLLOW")

var mountNames = &xlat{unknown: "MS_???", names: []named{
	{1 << 0, "MS_RDONLY"}, {1 << 1, "MS_NOSUID"}, {1 << 2, "MS_NODEV"}, {1 << 3, "MS_NOEXEC"}, {1 << 4, "MS_SYNCHRONOUS"},
	{1 << 5, "MS_REMOUNT"}, {1 << 6, "MS_MANDLOCK"}, {1 << 7, "MS_DIRSYNC"}, {1 << 8, "MS_NOSYMFOLLOW"}, {1 << 10, "MS_NOATIME"},
	{1 << 11, "MS_NODIRATIME"}, {1 << 12, "MS_BIND"}, {1 << 13, "MS_MOVE"}, {1 << 14, "MS_REC"}, {1 << 15, "MS_SILENT"},
	{1 << 16, "MS_POSIXACL"}, {1 << 17, "MS_UNBINDABLE"}, {1 << 18, "MS_PRIVATE"}, {1 << 19, "MS_SLAVE"}, {1 << 20, "MS_SHARED"},
	{1 << 21, "MS_RELATIME"}, {1 << 22, "MS_KERNMOUNT"}, {1 << 23, "MS_I_VERSION"}, {1 << 24, "MS_STRICTATIME"}, {1 << 25, "MS_LAZYTIME"},
	{1 << 26, "MS_SUBMOUNT"}, {1 << 27, "MS_NOREMOTELOCK"}, {1 << 28, "MS_NOSEC"}, {1 << 29, "MS_BORN"}, {1 << 30, "MS_ACTIVE"}, {1 << 31, "MS_NOUSER"},
}}

var inotifyInitNames = &xlat{unknown: "IN_???", names: []named{{0o4000, "IN_NONBLOCK"}, {0o2000000, "IN_CLOEXEC"}}}

var inotifyNames = &xlat{unknown: "IN_???", names: []named{
	{1 << 0, "IN_ACCESS"}, {1 << 1, "IN_MODIFY"}, {1 << 2, "IN_ATTRIB"}, {1 << 3, "IN_CLOSE_WRITE"}, {1 << 4, "IN_CLOSE_NOWRITE"},
	{1 << 5, "IN_OPEN"}, {1 << 6, "IN_MOVED_FROM"}, {1 << 7, "IN_MOVED_TO"}, {1 << 8, "IN_CREATE"}, {1 << 9, "IN_DELETE"},
	{1 << 10, "IN_DELETE_SELF"}, {1 << 11, "IN_MOVE_SELF"}, {1 << 13, "IN_UNMOUNT"}, {1 << 14, "IN_Q_OVERFLOW"}, {1 << 15, "IN_IGNORED"},
	{1 << 24, "IN_ONLYDIR"}, {1 << 25, "IN_DONT_FOLLOW"}, {1 << 26, "IN_EXCL_UNLINK"}, {1 << 28, "IN_MASK_CREATE"}, {1 << 29, "IN_MASK_ADD"},
	{1 << 30, "IN_ISDIR"}, {1 << 31, "IN_ONESHOT"},
}}

var closeRangeNames = &xlat{unknown: "CLOSE_RANGE_???", names: []named{{2, "CLOSE_RANGE_UNSHARE"}, {4, "CLOSE_RANGE_CLOEXEC"}}}

var statxMaskNames = &xlat{unknown: "STATX_???", names: []named{
	{0xfff, "STATX_ALL"}, {0x7ff, "STATX_BASIC_STATS"}, {0x1, "STATX_TYPE"}, {0x2, "STATX_MODE"}, {0x4, "STATX_NLINK"}, {0x8, "STATX_UID"},
	{0x10, "STATX_GID"}, {0x20, "STATX_ATIME"}, {0x40, "STATX_MTIME"}, {0x80, "STATX_CTIME"}, {0x100, "STATX_INO"}, {0x200, "STATX_SIZE"},
	{0x400, "STATX_BLOCKS"}, {0x800, "STATX_BTIME"}, {0x1000, "STATX_MNT_ID"}, {0x2000, "STATX_DIOALIGN"},
}}

var statxAttrNames = &xlat{unknown: "STATX_ATTR_???", names: []named{
	{0x4, "STATX_ATTR_COMPRESSED"}, {0x10, "STATX_ATTR_IMMUTABLE"}, {0x20, "STATX_ATTR_APPEND"}, {0x40, "STATX_ATTR_NODUMP"},
	{0x800, "STATX_ATTR_ENCRYPTED"}, {0x1000, "STATX_ATTR_AUTOMOUNT"}, {0x2000, "STATX_ATTR_MOUNT_ROOT"}, {0x100000, "STATX_ATTR_VERITY"}, {0x200000, "STATX_ATTR_DAX"},
}}

func (s *state) statxFlags(v uint64) {
	v &= 0xffffffff
	switch v & 0x6000 {
	case 0:
		s.str("AT_STATX_SYNC_AS_STAT")
	case 0x2000:
		s.str("AT_STATX_FORCE_SYNC")
	case 0x4000:
		s.str("AT_STATX_DONT_SYNC")
	default:
		s.str("AT_STATX_FORCE_SYNC|AT_STATX_DONT_SYNC")
	}
	s.moreFlags(atNames, v&^0x6000)
}

var fcntlCmds = &xlat{unknown: "F_???", names: []named{
	{0, "F_DUPFD"}, {1, "F_GETFD"}, {2, "F_SETFD"}, {3, "F_GETFL"}, {4, "F_SETFL"}, {5, "F_GETLK"}, {6, "F_SETLK"}, {7, "F_SETLKW"},
	{8, "F_SETOWN"}, {9, "F_GETOWN"}, {10, "F_SETSIG"}, {11, "F_GETSIG"}, {12, "F_GETLK64"}, {13, "F_SETLK64"}, {14, "F_SETLKW64"}, {15, "F_SETOWN_EX"}, {16, "F_GETOWN_EX"}, {17, "F_GETOWNER_UIDS"},
	{36, "F_OFD_GETLK"}, {37, "F_OFD_SETLK"}, {38, "F_OFD_SETLKW"}, {1024, "F_SETLEASE"}, {1025, "F_GETLEASE"}, {1026, "F_NOTIFY"},
	{1029, "F_CANCELLK"}, {1030, "F_DUPFD_CLOEXEC"}, {1031, "F_SETPIPE_SZ"}, {1032, "F_GETPIPE_SZ"}, {1033, "F_ADD_SEALS"}, {1034, "F_GET_SEALS"},
	{1035, "F_GET_RW_HINT"}, {1036, "F_SET_RW_HINT"}, {1037, "F_GET_FILE_RW_HINT"}, {1038, "F_SET_FILE_RW_HINT"},
}}

var fdFlagNames = bitNames("FD_???", 0, "FD_CLOEXEC")

var lockTypes = numbered("F_???", 0, "F_RDLCK", "F_WRLCK", "F_UNLCK")

var sealNames = bitNames("F_SEAL_???", 0, prefixed("F_SEAL_", "SEAL", "SHRINK", "GROW", "WRITE", "FUTURE_WRITE", "EXEC")...)

var fsTypes = &xlat{unknown: "", names: []named{
	{0xef53, "EXT2_SUPER_MAGIC"}, {0x01021994, "TMPFS_MAGIC"}, {0x9fa0, "PROC_SUPER_MAGIC"}, {0x62656572, "SYSFS_MAGIC"}, {0x1cd1, "DEVPTS_SUPER_MAGIC"},
	{0x858458f6, "RAMFS_MAGIC"}, {0x794c7630, "OVERLAYFS_SUPER_MAGIC"}, {0x9123683e, "BTRFS_SUPER_MAGIC"}, {0x58465342, "XFS_SUPER_MAGIC"},
	{0x27e0eb, "CGROUP_SUPER_MAGIC"}, {0x63677270, "CGROUP2_SUPER_MAGIC"}, {0x6969, "NFS_SUPER_MAGIC"}, {0x4d44, "MSDOS_SUPER_MAGIC"},
	{0x73717368, "SQUASHFS_MAGIC"}, {0x9660, "ISOFS_SUPER_MAGIC"}, {0x64626720, "DEBUGFS_MAGIC"}, {0x74726163, "TRACEFS_MAGIC"},
	{0xf97cff8c, "SELINUX_MAGIC"}, {0x50495045, "PIPEFS_MAGIC"}, {0x534f434b, "SOCKFS_MAGIC"}, {0x65735546, "FUSE_SUPER_MAGIC"},
	{0x01021997, "V9FS_MAGIC"}, {0x958458f6, "HUGETLBFS_MAGIC"}, {0xcafe4a11, "BPF_FS_MAGIC"}, {0x73636673, "SECURITYFS_MAGIC"},
	{0x6e736673, "NSFS_MAGIC"}, {0x42494e4d, "BINFMTFS_MAGIC"}, {0x0187, "AUTOFS_SUPER_MAGIC"}, {0x19800202, "MQUEUE_MAGIC"},
}}

var stFlagNames = &xlat{unknown: "ST_???", names: []named{
	{0x20, "ST_VALID"}, {0x1, "ST_RDONLY"}, {0x2, "ST_NOSUID"}, {0x4, "ST_NODEV"}, {0x8, "ST_NOEXEC"}, {0x10, "ST_SYNCHRONOUS"}, {0x40, "ST_MANDLOCK"},
	{0x400, "ST_NOATIME"}, {0x800, "ST_NODIRATIME"}, {0x1000, "ST_RELATIME"}, {0x2000, "ST_NOSYMFOLLOW"},
}}

var fileTypes = &xlat{names: []named{
	{0o140000, "S_IFSOCK"}, {0o120000, "S_IFLNK"}, {0o100000, "S_IFREG"}, {0o060000, "S_IFBLK"}, {0o040000, "S_IFDIR"}, {0o020000, "S_IFCHR"}, {0o010000, "S_IFIFO"},
}}

// fileMode writes a file's type and permissions.
func (s *state) fileMode(v uint64) {
	if n := fileTypes.name(v & 0o170000); n != "" {
		s.str(n)
		s.char('|')
		for _, b := range [...]named{{0o4000, "S_ISUID|"}, {0o2000, "S_ISGID|"}, {0o1000, "S_ISVTX|"}} {
			if v&b.v != 0 {
				s.str(b.n)
			}
		}
		v &= 0o777
	}
	s.mode(v)
}
