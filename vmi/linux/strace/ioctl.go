package strace

// ioctlReq is one request with the form of its argument.
type ioctlReq struct {
	v   uint64
	n   string
	arg kind
}

// ioctlReqs are the requests that common programs make
// (include/uapi/asm-generic/ioctls.h, linux/{fs,sockios}.h).
var ioctlReqs = []ioctlReq{
	{0x5401, "TCGETS", termiosOut}, {0x5402, "SNDCTL_TMR_START or TCSETS", termiosIn}, {0x5403, "SNDCTL_TMR_STOP or TCSETSW", termiosIn}, {0x5404, "SNDCTL_TMR_CONTINUE or TCSETSF", termiosIn},
	{0x5405, "TCGETA", addr}, {0x5409, "TCSBRK", decInt}, {0x540a, "TCXONC", enumOf(tcxonc)}, {0x540b, "TCFLSH", enumOf(tcflsh)},
	{0x540c, "TIOCEXCL", none}, {0x540d, "TIOCNXCL", none}, {0x540e, "TIOCSCTTY", decInt},
	{0x540f, "TIOCGPGRP", outInts(1)}, {0x5410, "TIOCSPGRP", inInt}, {0x5411, "TIOCOUTQ", outInts(1)}, {0x5412, "TIOCSTI", addr},
	{0x5413, "TIOCGWINSZ", winsizeOut}, {0x5414, "TIOCSWINSZ", winsizeIn}, {0x541b, "FIONREAD", outInts(1)},
	{0x5421, "FIONBIO", inInt}, {0x5422, "TIOCNOTTY", none}, {0x5423, "TIOCSETD", inInt}, {0x5424, "TIOCGETD", outInts(1)},
	{0x5429, "TIOCGSID", outInts(1)}, {0x5450, "FIONCLEX", none}, {0x5451, "FIOCLEX", none}, {0x5452, "FIOASYNC", inInt},
	{0x80045430, "TIOCGPTN", outUint}, {0x40045431, "TIOCSPTLCK", inInt}, {0x5441, "TIOCGPTPEER", openHow},
	{0x80081272, "BLKGETSIZE64", outU64}, {0x1260, "BLKGETSIZE", outU64}, {0x125f, "BLKRRPART", none}, {0x1268, "BLKSSZGET", outInts(1)},
	{0x80086601, "FS_IOC_GETFLAGS", addr}, {0x40086602, "FS_IOC_SETFLAGS", addr}, {0x40049409, "FICLONE", decInt}, {0x4020940d, "FICLONERANGE", addr},
	{0x8912, "SIOCGIFCONF", addr}, {0x8913, "SIOCGIFFLAGS", addr}, {0x8914, "SIOCSIFFLAGS", addr}, {0x8915, "SIOCGIFADDR", addr},
	{0x8916, "SIOCSIFADDR", addr}, {0x891b, "SIOCGIFNETMASK", addr}, {0x8927, "SIOCGIFHWADDR", addr}, {0x8933, "SIOCGIFINDEX", addr},
	{0x4b33, "KDGKBTYPE", addr}, {0x4b3a, "KDSETMODE", addr}, {0x5603, "VT_GETSTATE", addr}, {0x5606, "VT_ACTIVATE", decInt},
}

// none marks a request whose argument is not shown.
var none = kind{}

var ioctlForms = func() map[uint64][]kind {
	m := make(map[uint64][]kind)
	for _, r := range ioctlReqs {
		form := []kind{fd, in(func(s *state, _ uint64) { s.str(r.n) })}
		if r.arg.put != nil {
			form = append(form, r.arg)
		}
		m[r.v] = form
	}
	return m
}()

var ioctlUnknown = []kind{fd, in((*state).ioctlCode), hexLong}

var ioctlSpec = pick(func(a *[6]uint64) []kind {
	if k, ok := ioctlForms[a[1]&0xffffffff]; ok {
		return k
	}
	return ioctlUnknown
})

// ioctlCode writes a request without a name by its parts.
func (s *state) ioctlCode(v uint64) {
	v &= 0xffffffff
	s.str("_IOC(")
	dir := v >> 30
	if dir == 0 {
		s.str("_IOC_NONE")
	} else {
		if dir&2 != 0 {
			s.str("_IOC_READ")
		}
		if dir == 3 {
			s.char('|')
		}
		if dir&1 != 0 {
			s.str("_IOC_WRITE")
		}
	}
	for _, p := range [...]uint64{v >> 8 & 0xff, v & 0xff, v >> 16 & 0x3fff} {
		s.str(", ")
		s.hex(p)
	}
	s.char(')')
}

var inInt = in(func(s *state, v uint64) {
	if b := s.structAt(v, 4); b != nil {
		s.char('[')
		s.dec(i32(b))
		s.char(']')
	}
})

var outU64 = out(func(s *state, v uint64) {
	if b := s.structAt(v, 8); b != nil {
		s.char('[')
		s.udec(u64(b))
		s.char(']')
	}
})

var (
	winsizeIn  = in((*state).winsize)
	winsizeOut = out((*state).winsize)
	termiosIn  = in((*state).termios)
	termiosOut = out((*state).termios)
)

func (s *state) winsize(v uint64) {
	b := s.structAt(v, 8)
	if b == nil {
		return
	}
	for i, n := range [...]string{"{ws_row=", ", ws_col=", ", ws_xpixel=", ", ws_ypixel="} {
		s.str(n)
		s.udec(u16(b[2*i:]))
	}
	s.char('}')
}

// termios writes the kernel's struct termios.
func (s *state) termios(v uint64) {
	b := s.structAt(v, 36)
	if b == nil {
		return
	}
	iflag, oflag, cflag, lflag := u32(b), u32(b[4:]), u32(b[8:]), u32(b[12:])
	s.str("{c_iflag=")
	s.flags(iflagNames, iflag)
	s.str(", c_oflag=")
	for i, d := range delays {
		if i > 0 {
			s.char('|')
		}
		if v := oflag & d.mask >> d.shift; d.name == "TAB" && v == 3 {
			s.str("XTABS")
		} else {
			s.str(d.name)
			s.udec(v)
		}
		oflag &^= d.mask
	}
	s.moreFlags(oflagNames, oflag)
	s.str(", c_cflag=")
	if n := baudNames.name(cflag & 0o10017); n != "" {
		s.str(n)
	} else {
		s.hex(cflag & 0o10017)
	}
	s.str("|CS")
	s.udec(5 + cflag>>4&3)
	s.moreFlags(cflagNames, cflag&^0o10077)
	s.str(", c_lflag=")
	s.flags(lflagNames, lflag)
	s.str(", ...}")
}

var delays = [...]struct {
	name  string
	mask  uint64
	shift uint
}{{"NL", 0o400, 8}, {"CR", 0o3000, 9}, {"TAB", 0o14000, 11}, {"BS", 0o20000, 13}, {"VT", 0o40000, 14}, {"FF", 0o100000, 15}}

var (
	iflagNames = bitNames("", 0, "IGNBRK", "BRKINT", "IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IUCLC", "IXON", "IXANY", "IXOFF", "IMAXBEL", "IUTF8")
	oflagNames = bitNames("", 0, "OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET", "OFILL", "OFDEL")
	cflagNames = &xlat{names: []named{{0o100, "CSTOPB"}, {0o200, "CREAD"}, {0o400, "PARENB"}, {0o1000, "PARODD"}, {0o2000, "HUPCL"}, {0o4000, "CLOCAL"}, {1 << 30, "CMSPAR"}, {1 << 31, "CRTSCTS"}}}
	lflagNames = lineFlags(bitNames("", 0, "ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH"))
)

var baudNames = &xlat{names: []named{
	{0, "B0"}, {1, "B50"}, {2, "B75"}, {3, "B110"}, {4, "B134"}, {5, "B150"}, {6, "B200"}, {7, "B300"}, {8, "B600"}, {9, "B1200"},
	{10, "B1800"}, {11, "B2400"}, {12, "B4800"}, {13, "B9600"}, {14, "B19200"}, {15, "B38400"},
	{0o10001, "B57600"}, {0o10002, "B115200"}, {0o10003, "B230400"}, {0o10004, "B460800"}, {0o10005, "B500000"}, {0o10007, "B921600"},
	{0o10010, "B1000000"}, {0o10012, "B1500000"}, {0o10013, "B2000000"}, {0o10015, "B3000000"}, {0o10017, "B4000000"},
}}

var (
	tcxonc = numbered("TC???", 0, "TCOOFF", "TCOON", "TCIOFF", "TCION")
	tcflsh = numbered("TC???", 0, "TCIFLUSH", "TCOFLUSH", "TCIOFLUSH")
)

// lineFlags adds the flags above the eighth in strace's order, which is not
// theirs.
func lineFlags(x *xlat) *xlat {
	x.names = append(x.names, named{0o100000, "IEXTEN"}, named{0o1000, "ECHOCTL"}, named{0o2000, "ECHOPRT"}, named{0o4000, "ECHOKE"},
		named{0o10000, "FLUSHO"}, named{0o40000, "PENDIN"}, named{0o400, "TOSTOP"}, named{0o200000, "EXTPROC"})
	return x
}
