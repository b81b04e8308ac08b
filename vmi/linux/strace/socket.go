package strace

import (
	"net/netip"
	"strconv"
)

// Calls on sockets (include/uapi/linux/{socket,in,in6,un,netlink}.h,
// include/linux/socket.h).

var familyNames = numbered("AF_???", 0, prefixed("AF_", "UNSPEC", "UNIX", "INET", "AX25", "IPX", "APPLETALK", "NETROM", "BRIDGE", "ATMPVC", "X25",
	"INET6", "ROSE", "DECnet", "NETBEUI", "SECURITY", "KEY", "NETLINK", "PACKET", "ASH", "ECONET", "ATMSVC", "RDS", "SNA", "IRDA", "PPPOX", "WANPIPE",
	"LLC", "IB", "MPLS", "CAN", "TIPC", "BLUETOOTH", "IUCV", "RXRPC", "ISDN", "PHONET", "IEEE802154", "CAIF", "ALG", "NFC", "VSOCK", "KCM", "QIPCRTR",
	"SMC", "XDP", "MCTP")...)

var family = enumOf(familyNames)

var sockTypes = numbered("SOCK_???", 1, prefixed("SOCK_", "STREAM", "DGRAM", "RAW", "RDM", "SEQPACKET", "DCCP", "", "", "", "PACKET")...)

var sockFlagNames = &xlat{unknown: "SOCK_???", names: []named{{0o2000000, "SOCK_CLOEXEC"}, {0o4000, "SOCK_NONBLOCK"}}}

var sockType = in(func(s *state, v uint64) {
	v &= 0xffffffff
	kind, rest := v&0xf, v&^0xf
	n := sockTypes.name(kind)
	if n == "" {
		s.flags(sockFlagNames, v)
		return
	}
	s.str(n)
	s.moreFlags(sockFlagNames, rest)
})

var protoNames = &xlat{unknown: "IPPROTO_???", names: []named{
	{0, "IPPROTO_IP"}, {1, "IPPROTO_ICMP"}, {2, "IPPROTO_IGMP"}, {4, "IPPROTO_IPIP"}, {6, "IPPROTO_TCP"}, {8, "IPPROTO_EGP"}, {12, "IPPROTO_PUP"},
	{17, "IPPROTO_UDP"}, {22, "IPPROTO_IDP"}, {29, "IPPROTO_TP"}, {33, "IPPROTO_DCCP"}, {41, "IPPROTO_IPV6"}, {43, "IPPROTO_ROUTING"},
	{44, "IPPROTO_FRAGMENT"}, {46, "IPPROTO_RSVP"}, {47, "IPPROTO_GRE"}, {50, "IPPROTO_ESP"}, {51, "IPPROTO_AH"}, {58, "IPPROTO_ICMPV6"},
	{59, "IPPROTO_NONE"}, {60, "IPPROTO_DSTOPTS"}, {92, "IPPROTO_MTP"}, {94, "IPPROTO_BEETPH"}, {98, "IPPROTO_ENCAP"}, {103, "IPPROTO_PIM"},
	{108, "IPPROTO_COMP"}, {115, "IPPROTO_L2TP"}, {132, "IPPROTO_SCTP"}, {135, "IPPROTO_MH"}, {136, "IPPROTO_UDPLITE"}, {137, "IPPROTO_MPLS"},
	{143, "IPPROTO_ETHERNET"}, {255, "IPPROTO_RAW"}, {262, "IPPROTO_MPTCP"},
}}

var netlinkNames = numbered("NETLINK_???", 0, prefixed("NETLINK_", "ROUTE", "UNUSED", "USERSOCK", "FIREWALL", "SOCK_DIAG", "NFLOG", "XFRM", "SELINUX", "ISCSI",
	"AUDIT", "FIB_LOOKUP", "CONNECTOR", "NETFILTER", "IP6_FW", "DNRTMSG", "KOBJECT_UEVENT", "GENERIC", "", "SCSITRANSPORT", "ECRYPTFS", "RDMA", "CRYPTO", "SMC")...)

var ethNames = &xlat{unknown: "ETH_P_???", names: []named{{3, "ETH_P_ALL"}, {0x800, "ETH_P_IP"}, {0x806, "ETH_P_ARP"}, {0x86dd, "ETH_P_IPV6"}}}

var sockProto = in(func(s *state, v uint64) {
	v &= 0xffffffff
	switch s.args[0] & 0xffffffff {
	case afInet, afInet6:
		s.enum(protoNames, v)
	case afNetlink:
		s.enum(netlinkNames, v)
	case afPacket:
		s.str("htons(")
		s.enum(ethNames, v>>8&0xff|v<<8&0xff00)
		s.char(')')
	default:
		s.udec(v)
	}
})

const (
	afUnix    = 1
	afInet    = 2
	afInet6   = 10
	afNetlink = 16
	afPacket  = 17
)

// maxSockaddr is sizeof(struct sockaddr_storage), the most that the kernel
// takes.
const maxSockaddr = 128

// sockaddr writes the n bytes of the address at v.
func (s *state) sockaddr(v, n uint64) {
	if v == 0 || n < 2 {
		s.ptr(v)
		return
	}
	b := s.fetch(v, int(min(n, maxSockaddr)))
	if b == nil {
		s.ptr(v)
		return
	}
	fam := u16(b)
	s.str("{sa_family=")
	s.enum(familyNames, fam)
	switch {
	case fam == afUnix && len(b) > 2:
		s.str(", sun_path=")
		p := b[2:]
		if len(p) > 108 {
			p = p[:108]
		}
		if p[0] == 0 && len(p) > 1 {
			s.char('@')
			s.quote(p[1:], false)
			break
		}
		for i, c := range p {
			if c == 0 {
				p = p[:i]
				break
			}
		}
		s.quote(p, false)
	case fam == afInet && len(b) >= 16:
		s.str(", sin_port=htons(")
		s.udec(uint64(b[2])<<8 | uint64(b[3]))
		s.str("), sin_addr=inet_addr(\"")
		s.buf = netip.AddrFrom4([4]byte(b[4:8])).AppendTo(s.buf)
		s.str("\")")
	case fam == afInet6 && len(b) >= 24:
		s.str(", sin6_port=htons(")
		s.udec(uint64(b[2])<<8 | uint64(b[3]))
		s.str("), sin6_flowinfo=htonl(")
		s.udec(uint64(b[4])<<24 | uint64(b[5])<<16 | uint64(b[6])<<8 | uint64(b[7]))
		s.str("), inet_pton(AF_INET6, \"")
		s.buf = netip.AddrFrom16([16]byte(b[8:24])).AppendTo(s.buf)
		s.str("\", &sin6_addr)")
		if len(b) >= 28 {
			s.str(", sin6_scope_id=")
			s.udec(u32(b[24:]))
		}
	case fam == afNetlink && len(b) >= 12:
		s.str(", nl_pid=")
		s.dec(i32(b[4:]))
		s.str(", nl_groups=")
		g := u32(b[8:])
		if g == 0 {
			s.str("00000000")
			break
		}
		s.str("0x")
		for m := uint64(1 << 20); m > 1 && g < m; m >>= 4 {
			s.char('0')
		}
		s.buf = strconv.AppendUint(s.buf, g, 16)
	case len(b) > 2:
		s.str(", sa_data=")
		s.quote(b[2:], false)
	}
	s.char('}')
}

// sockaddrIn is an address whose length is the argument at index i.
func sockaddrIn(i int) kind {
	return in(func(s *state, v uint64) { s.sockaddr(v, s.args[i]&0xffffffff) })
}

// sockaddrOut and socklenOut are an address that the kernel writes and the
// length that it writes with it. The address shows as much as both lengths
// allow.
func sockaddrOut(i int) kind {
	return kind{
		out: true,
		pre: func(s *state, _ uint64) {
			if p := s.args[i]; p != 0 {
				if b := s.fetch(p, 4); b != nil {
					s.stash = u32(b)
				}
			}
		},
		put: func(s *state, v uint64) {
			if s.skipOut(v) {
				return
			}
			b := s.fetch(s.args[i], 4)
			if b == nil {
				s.ptr(v)
				return
			}
			s.sockaddr(v, min(u32(b), s.stash))
		},
	}
}

var socklenOut = out(func(s *state, v uint64) {
	if v == 0 {
		s.ptr(v)
		return
	}
	if s.errno != 0 {
		s.char('[')
		s.udec(s.stash)
		s.char(']')
		return
	}
	b := s.fetch(v, 4)
	if b == nil {
		s.ptr(v)
		return
	}
	s.char('[')
	if now := u32(b); now != s.stash && s.stash != 0 {
		s.udec(s.stash)
		s.str(" => ")
		s.udec(now)
	} else {
		s.udec(now)
	}
	s.char(']')
})

var msgNames = &xlat{unknown: "MSG_???", names: []named{
	{0x1, "MSG_OOB"}, {0x2, "MSG_PEEK"}, {0x4, "MSG_DONTROUTE"}, {0x8, "MSG_CTRUNC"}, {0x10, "MSG_PROBE"}, {0x20, "MSG_TRUNC"}, {0x40, "MSG_DONTWAIT"},
	{0x80, "MSG_EOR"}, {0x100, "MSG_WAITALL"}, {0x200, "MSG_FIN"}, {0x400, "MSG_SYN"}, {0x800, "MSG_CONFIRM"}, {0x1000, "MSG_RST"}, {0x2000, "MSG_ERRQUEUE"},
	{0x4000, "MSG_NOSIGNAL"}, {0x8000, "MSG_MORE"}, {0x10000, "MSG_WAITFORONE"}, {0x20000, "MSG_SENDPAGE_NOTLAST"}, {0x40000, "MSG_BATCH"},
	{0x80000, "MSG_NO_SHARED_FRAGS"}, {0x4000000, "MSG_ZEROCOPY"}, {0x20000000, "MSG_FASTOPEN"}, {0x40000000, "MSG_CMSG_CLOEXEC"}, {0x80000000, "MSG_CMSG_COMPAT"},
}}

var msgFlags = flagsOf(msgNames)

// msghdr writes a struct msghdr. data says how many bytes its buffers hold,
// had how long its name was at entry.
func (s *state) msghdr(v, data, had uint64) {
	b := s.structAt(v, 56)
	if b == nil {
		return
	}
	s.str("{msg_name=")
	name, nameLen := u64(b), u32(b[8:])
	if nameLen == 0 {
		s.ptr(name)
	} else {
		s.sockaddr(name, min(nameLen, had))
	}
	s.str(", msg_namelen=")
	if had != nameLen && had != anyLen {
		s.udec(had)
		s.str(" => ")
	}
	s.udec(nameLen)
	s.str(", msg_iov=")
	s.iovec(u64(b[16:]), u64(b[24:]), data)
	s.str(", msg_iovlen=")
	s.udec(u64(b[24:]))
	if n := u64(b[40:]); n != 0 {
		s.str(", msg_control=")
		s.cmsgs(u64(b[32:]), n)
	}
	s.str(", msg_controllen=")
	s.udec(u64(b[40:]))
	s.str(", msg_flags=")
	s.flags(msgNames, u32(b[48:]))
	s.char('}')
}

// cmsgs writes control messages: descriptors and credentials in full, others
// by their level, type and bytes.
func (s *state) cmsgs(v, n uint64) {
	b := s.fetch(v, int(min(n, 1024)))
	if b == nil {
		s.ptr(v)
		return
	}
	s.char('[')
	for i := 0; len(b) >= 16; i++ {
		length := u64(b)
		if i > 0 {
			s.str(", ")
		}
		level, typ := u32(b[8:]), u32(b[12:])
		s.str("{cmsg_len=")
		s.udec(length)
		s.str(", cmsg_level=")
		s.enum(solNames, level)
		s.str(", cmsg_type=")
		if level == 1 {
			s.enum(scmNames, typ)
		} else {
			s.hex(typ)
		}
		if length < 16 || length > uint64(len(b)) {
			s.char('}')
			break
		}
		data := b[16:length]
		switch {
		case level == 1 && typ == 1:
			s.str(", cmsg_data=[")
			for j := 0; len(data) >= 4 && j < 64; j, data = j+1, data[4:] {
				if j > 0 {
					s.str(", ")
				}
				s.dec(i32(data))
			}
			s.char(']')
		case level == 1 && typ == 2 && len(data) >= 12:
			s.str(", cmsg_data={pid=")
			s.dec(i32(data))
			s.str(", uid=")
			s.udec(u32(data[4:]))
			s.str(", gid=")
			s.udec(u32(data[8:]))
			s.char('}')
		case len(data) > 0:
			s.str(", cmsg_data=")
			s.quote(data[:min(len(data), maxString)], true)
			if len(data) > maxString {
				s.str("...")
			}
		}
		s.char('}')
		next := (length + 7) &^ 7
		if next >= uint64(len(b)) {
			break
		}
		b = b[next:]
	}
	s.char(']')
}

var scmNames = numbered("SCM_???", 1, "SCM_RIGHTS", "SCM_CREDENTIALS", "SCM_SECURITY", "SCM_PIDFD")

// anyLen stands for "as much as there is".
const anyLen = ^uint64(0)

var (
	msghdrIn  = in(func(s *state, v uint64) { s.msghdr(v, anyLen, anyLen) })
	msghdrOut = kind{
		out: true,
		pre: func(s *state, v uint64) {
			if b := s.fetch(v+8, 4); b != nil {
				s.stash = u32(b)
			}
		},
		put: func(s *state, v uint64) {
			if v != 0 && s.errno != 0 {
				s.str("{msg_namelen=")
				s.udec(s.stash)
				s.char('}')
				return
			}
			s.msghdr(v, uint64(s.ret), s.stash)
		},
	}
)

// mmsghdr is an array of messages, each with the bytes moved.
func (s *state) mmsghdr(v, n uint64, received bool) {
	if v == 0 {
		s.ptr(v)
		return
	}
	s.char('[')
	for i := range n {
		if i > 0 {
			s.str(", ")
		}
		if i == maxArray {
			s.str("...")
			break
		}
		m := s.mark()
		b := s.fetch(v+64*i+56, 4)
		if b == nil {
			s.ptr(v + 64*i)
			break
		}
		moved := u32(b)
		s.str("{msg_hdr=")
		data := uint64(anyLen)
		if received {
			data = moved
		}
		s.msghdr(v+64*i, data, anyLen)
		if received {
			s.str(", msg_len=")
			s.udec(moved)
		}
		s.char('}')
		s.release(m)
	}
	s.char(']')
}

var solNames = &xlat{unknown: "SOL_??", names: []named{
	{0, "SOL_IP"}, {1, "SOL_SOCKET"}, {6, "SOL_TCP"}, {17, "SOL_UDP"}, {41, "SOL_IPV6"}, {58, "SOL_ICMPV6"}, {136, "SOL_UDPLITE"}, {255, "SOL_RAW"},
	{263, "SOL_PACKET"}, {270, "SOL_NETLINK"}, {279, "SOL_ALG"}, {282, "SOL_TLS"}, {283, "SOL_XDP"},
}}

var soNames = numbered("SO_???", 1, prefixed("SO_", "DEBUG", "REUSEADDR", "TYPE", "ERROR", "DONTROUTE", "BROADCAST", "SNDBUF", "RCVBUF", "KEEPALIVE", "OOBINLINE",
	"NO_CHECK", "PRIORITY", "LINGER", "BSDCOMPAT", "REUSEPORT", "PASSCRED", "PEERCRED", "RCVLOWAT", "SNDLOWAT", "RCVTIMEO_OLD", "SNDTIMEO_OLD",
	"SECURITY_AUTHENTICATION", "SECURITY_ENCRYPTION_TRANSPORT", "SECURITY_ENCRYPTION_NETWORK", "BINDTODEVICE", "ATTACH_FILTER", "DETACH_FILTER",
	"PEERNAME", "TIMESTAMP_OLD", "ACCEPTCONN", "PEERSEC", "SNDBUFFORCE", "RCVBUFFORCE", "PASSSEC", "TIMESTAMPNS_OLD", "MARK", "TIMESTAMPING_OLD",
	"PROTOCOL", "DOMAIN", "RXQ_OVFL", "WIFI_STATUS", "PEEK_OFF", "NOFCS", "LOCK_FILTER", "SELECT_ERR_QUEUE", "BUSY_POLL", "MAX_PACING_RATE",
	"BPF_EXTENSIONS", "INCOMING_CPU", "ATTACH_BPF", "ATTACH_REUSEPORT_CBPF", "ATTACH_REUSEPORT_EBPF", "CNX_ADVICE", "", "MEMINFO", "INCOMING_NAPI_ID",
	"COOKIE", "", "PEERGROUPS", "ZEROCOPY", "TXTIME", "BINDTOIFINDEX", "TIMESTAMP_NEW", "TIMESTAMPNS_NEW", "TIMESTAMPING_NEW", "RCVTIMEO_NEW",
	"SNDTIMEO_NEW", "DETACH_REUSEPORT_BPF", "PREFER_BUSY_POLL", "BUSY_POLL_BUDGET", "NETNS_COOKIE", "BUF_LOCK", "RESERVE_MEM", "TXREHASH", "RCVMARK")...)

var tcpNames = numbered("TCP_???", 1, prefixed("TCP_", "NODELAY", "MAXSEG", "CORK", "KEEPIDLE", "KEEPINTVL", "KEEPCNT", "SYNCNT", "LINGER2", "DEFER_ACCEPT",
	"WINDOW_CLAMP", "INFO", "QUICKACK", "CONGESTION", "MD5SIG", "COOKIE_TRANSACTIONS", "THIN_LINEAR_TIMEOUTS", "THIN_DUPACK", "USER_TIMEOUT", "REPAIR",
	"REPAIR_QUEUE", "QUEUE_SEQ", "REPAIR_OPTIONS", "FASTOPEN", "TIMESTAMP", "NOTSENT_LOWAT", "CC_INFO", "SAVE_SYN", "SAVED_SYN", "REPAIR_WINDOW",
	"FASTOPEN_CONNECT", "ULP", "MD5SIG_EXT", "FASTOPEN_KEY", "FASTOPEN_NO_COOKIE", "ZEROCOPY_RECEIVE", "INQ", "TX_DELAY")...)

var ipNames = func() *xlat {
	x := numbered("IP_???", 1, prefixed("IP_", "TOS", "TTL", "HDRINCL", "OPTIONS", "ROUTER_ALERT", "RECVOPTS", "RETOPTS", "PKTINFO", "PKTOPTIONS",
		"MTU_DISCOVER", "RECVERR", "RECVTTL", "RECVTOS", "MTU", "FREEBIND", "IPSEC_POLICY", "XFRM_POLICY", "PASSSEC", "TRANSPARENT", "ORIGDSTADDR",
		"MINTTL", "NODEFRAG", "CHECKSUM", "BIND_ADDRESS_NO_PORT", "RECVFRAGSIZE", "RECVERR_RFC4884", "", "", "", "", "", "MULTICAST_IF", "MULTICAST_TTL",
		"MULTICAST_LOOP", "ADD_MEMBERSHIP", "DROP_MEMBERSHIP", "UNBLOCK_SOURCE", "BLOCK_SOURCE", "ADD_SOURCE_MEMBERSHIP", "DROP_SOURCE_MEMBERSHIP", "MSFILTER")...)
	x.names = append(x.names, named{49, "IP_MULTICAST_ALL"}, named{50, "IP_UNICAST_IF"})
	return x
}()

var ipv6Names = &xlat{unknown: "IPV6_???", names: []named{
	{16, "IPV6_UNICAST_HOPS"}, {17, "IPV6_MULTICAST_IF"}, {18, "IPV6_MULTICAST_HOPS"}, {19, "IPV6_MULTICAST_LOOP"}, {20, "IPV6_ADD_MEMBERSHIP"},
	{21, "IPV6_DROP_MEMBERSHIP"}, {23, "IPV6_MTU_DISCOVER"}, {24, "IPV6_MTU"}, {25, "IPV6_RECVERR"}, {26, "IPV6_V6ONLY"}, {49, "IPV6_RECVPKTINFO"},
	{50, "IPV6_PKTINFO"}, {51, "IPV6_RECVHOPLIMIT"}, {66, "IPV6_RECVTCLASS"}, {67, "IPV6_TCLASS"}, {70, "IPV6_AUTOFLOWLABEL"}, {75, "IPV6_TRANSPARENT"}, {78, "IPV6_FREEBIND"},
}}

var netlinkOptNames = numbered("NETLINK_???", 1, prefixed("NETLINK_", "ADD_MEMBERSHIP", "DROP_MEMBERSHIP", "PKTINFO", "BROADCAST_ERROR", "NO_ENOBUFS",
	"RX_RING", "TX_RING", "LISTEN_ALL_NSID", "LIST_MEMBERSHIPS", "CAP_ACK", "EXT_ACK", "GET_STRICT_CHK")...)

var sockLevel = enumOf(solNames)

var (
	sockOptSet = in(func(s *state, v uint64) { s.sockOpt(v&0xffffffff, false) })
	sockOptGet = in(func(s *state, v uint64) { s.sockOpt(v&0xffffffff, true) })
)

func (s *state) sockOpt(v uint64, get bool) {
	switch s.args[1] & 0xffffffff {
	case 1:
		if v == 26 && get {
			s.str("SO_GET_FILTER") // set, it is called SO_ATTACH_FILTER
			return
		}
		s.enum(soNames, v)
	case 6:
		s.enum(tcpNames, v)
	case 0:
		s.enum(ipNames, v)
	case 41:
		s.enum(ipv6Names, v)
	case 270:
		s.enum(netlinkOptNames, v)
	default:
		s.hex(v)
	}
}

// sockOptVal writes the n bytes of an option's value.
func (s *state) sockOptVal(v, n uint64) {
	level, opt := s.args[1]&0xffffffff, s.args[2]&0xffffffff
	if v == 0 {
		s.ptr(v)
		return
	}
	if level == 1 {
		switch opt {
		case 13: // SO_LINGER
			if n >= 8 {
				if b := s.fetch(v, 8); b != nil {
					s.str("{l_onoff=")
					s.dec(i32(b))
					s.str(", l_linger=")
					s.dec(i32(b[4:]))
					s.char('}')
					return
				}
			}
		case 17: // SO_PEERCRED
			if n >= 12 {
				if b := s.fetch(v, 12); b != nil {
					s.str("{pid=")
					s.dec(i32(b))
					s.str(", uid=")
					s.udec(u32(b[4:]))
					s.str(", gid=")
					s.udec(u32(b[8:]))
					s.char('}')
					return
				}
			}
		case 25, 31: // SO_BINDTODEVICE, SO_PEERSEC
			s.bytes(v, n, false)
			return
		}
	}
	if n == 4 {
		if b := s.fetch(v, 4); b != nil {
			s.char('[')
			s.dec(i32(b))
			s.char(']')
			return
		}
		s.ptr(v)
		return
	}
	s.bytes(v, n, false)
}

var sockOptOut = kind{
	out: true,
	pre: func(s *state, _ uint64) {
		if b := s.fetch(s.args[4], 4); b != nil {
			s.stash = u32(b)
		}
	},
	put: func(s *state, v uint64) {
		if s.skipOut(v) {
			return
		}
		b := s.fetch(s.args[4], 4)
		if b == nil {
			s.ptr(v)
			return
		}
		s.sockOptVal(v, u32(b))
	},
}

var (
	getNameSpec = call(fd, sockaddrOut(2), socklenOut)
	nameInSpec  = call(fd, sockaddrIn(2), decInt)
)

var socketCalls = map[string]*spec{
	"socket":      call(family, sockType, sockProto),
	"socketpair":  call(family, sockType, sockProto, outInts(2)),
	"bind":        nameInSpec,
	"connect":     nameInSpec,
	"listen":      call(fd, decInt),
	"accept":      getNameSpec,
	"accept4":     call(fd, sockaddrOut(2), socklenOut, flagsOf(sockFlagNames)),
	"getsockname": getNameSpec,
	"getpeername": getNameSpec,
	"shutdown":    call(fd, enumOf(numbered("SHUT_???", 0, "SHUT_RD", "SHUT_WR", "SHUT_RDWR"))),
	"sendto":      call(fd, bufLen(2), size, msgFlags, sockaddrIn(5), uInt),
	"recvfrom":    call(fd, bufRet, size, msgFlags, sockaddrOut(5), socklenOut),
	"sendmsg":     call(fd, msghdrIn, msgFlags),
	"recvmsg":     call(fd, msghdrOut, msgFlags),
	"sendmmsg": call(fd, out(func(s *state, v uint64) {
		if s.errno != 0 {
			s.ptr(v)
			return
		}
		s.mmsghdr(v, uint64(s.ret), true)
	}), uInt, msgFlags),
	"recvmmsg": call(fd, out(func(s *state, v uint64) {
		if s.errno != 0 {
			s.ptr(v)
			return
		}
		s.mmsghdr(v, uint64(s.ret), true)
	}), uInt, msgFlags, timespecIn),
	"setsockopt": call(fd, sockLevel, sockOptSet, in(func(s *state, v uint64) { s.sockOptVal(v, s.args[4]&0xffffffff) }), decInt),
	"getsockopt": call(fd, sockLevel, sockOptGet, sockOptOut, socklenOut),
}
