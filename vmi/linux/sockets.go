package linux

import (
	"fmt"
	"iter"
	"net/netip"
	"strings"

	"github.com/govmi/govmi/vmi"
)

// Socket is a socket of the guest.
type Socket struct {
	// Addr is that of its struct sock.
	Addr vmi.VirtAddr `json:"-"`
	// Family is an address family such as 2 for AF_INET, Type is that of
	// socket(2), Protocol such as 6 for TCP.
	Family   uint16
	Type     uint16
	Protocol uint16
	// State is that of TCP, which the kernel uses for other protocols as well.
	State SocketState
	// Local and Remote are the addresses of an internet socket; Remote is
	// without a port if it is not connected.
	Local, Remote netip.AddrPort
	// Path is the address of a Unix socket, with "@" for the NUL of an
	// abstract one.
	Path string `json:",omitempty"`
	// Inode is 0 for a socket that no process holds any more.
	Inode uint64
	UID   uint32
	// NetNS is the inode of its network namespace.
	NetNS uint32
}

// Address families.
const (
	FamilyUnix  = 1
	FamilyInet  = 2
	FamilyInet6 = 10
)

// SocketState is a state of a TCP socket, by the kernel's number.
type SocketState uint8

// The states that other kinds of sockets have as well.
const (
	Established SocketState = 1
	Closed      SocketState = 7
	Listening   SocketState = 10
)

const (
	timeWait   SocketState = 6
	newSynRecv SocketState = 12
)

var socketStates = [...]string{
	1: "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT",
	"UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECV",
}

// String returns the state as ss(8) names it.
func (s SocketState) String() string {
	if int(s) < len(socketStates) && socketStates[s] != "" {
		return socketStates[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (s SocketState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

type socketFields struct {
	SK         Field `btf:"socket.sk"`
	SocketType Field `btf:"socket.type"`
	Inode      Field `btf:"socket_alloc.vfs_inode"`
	Socket     Field `btf:"sock.sk_socket"`
	Type       Field `btf:"sock.sk_type"`
	Protocol   Field `btf:"sock.sk_protocol"`
	UID        Field `btf:"sock.sk_uid"`
	Family     Field `btf:"sock_common.skc_family"`
	State      Field `btf:"sock_common.skc_state"`
	LocalPort  Field `btf:"sock_common.skc_num"`
	RemotePort Field `btf:"sock_common.skc_dport"`
	Local      Field `btf:"sock_common.skc_rcv_saddr"`
	Remote     Field `btf:"sock_common.skc_daddr"`
	Local6     Field `btf:"sock_common.skc_v6_rcv_saddr"`
	Remote6    Field `btf:"sock_common.skc_v6_daddr"`
	Net        Field `btf:"sock_common.skc_net"`
	Node       Field `btf:"sock_common.skc_node"`
	NetInum    Field `btf:"net.ns.inum"`
	UnixAddr   Field `btf:"unix_sock.addr"`
	UnixLen    Field `btf:"unix_address.len"`
	UnixName   Field `btf:"unix_address.name"`

	EHash      Field `btf:"inet_hashinfo.ehash"`
	EHashMask  Field `btf:"inet_hashinfo.ehash_mask"`
	EHashChain Field `btf:"inet_ehash_bucket.chain"`
	// Listening sockets: an array up to 5.18, then those that are found by
	// address as well.
	Listening Field `btf:"inet_hashinfo.listening_hash?"`
	LHash     Field `btf:"inet_hashinfo.lhash2"`
	LHashMask Field `btf:"inet_hashinfo.lhash2_mask"`
	LHashHead Field `btf:"inet_listen_hashbucket.nulls_head"`

	UDPHash Field `btf:"udp_table.hash"`
	UDPMask Field `btf:"udp_table.mask"`
	UDPHead Field `btf:"udp_hslot.head"`

	UnixBuckets Field `btf:"net.unx.table.buckets?"` // since 6.0
}

const (
	maxBuckets = 1 << 22
	maxSockets = 1 << 22
	maxUnix    = 108 // sockaddr_un.sun_path
)

// socketOf reads the socket of a struct socket.
func (k *Kernel) socketOf(r *reader, socket vmi.VirtAddr) Socket {
	f, err := k.fields.socket.of(k)
	if err != nil {
		r.fail(err)
		return Socket{}
	}
	sk := r.ptr(f.SK, socket)
	if sk == 0 {
		return Socket{Type: uint16(r.uint(f.SocketType, socket)), Inode: k.socketInode(r, f, socket)}
	}
	return k.sock(r, f, sk)
}

func (k *Kernel) socketInode(r *reader, f *socketFields, socket vmi.VirtAddr) uint64 {
	p, err := k.fields.path.of(k)
	if err != nil {
		r.fail(err)
		return 0
	}
	// The socket is the first member of socket_alloc.
	return r.uint(p.Ino, r.in(f.Inode, socket))
}

// sock reads a struct sock, or one of the smaller ones that begin with a
// sock_common.
func (k *Kernel) sock(r *reader, f *socketFields, sk vmi.VirtAddr) Socket {
	s := Socket{
		Addr: sk, Family: uint16(r.uint(f.Family, sk)), State: SocketState(r.uint(f.State, sk)),
		NetNS: uint32(r.uint(f.NetInum, r.ptr(Field{Path: f.Net.Path, Offset: f.Net.Offset, Size: 8}, sk))),
	}
	small := s.State == timeWait || s.State == newSynRecv
	if small {
		s.Type, s.Protocol = 1, 6
	} else {
		s.Type, s.Protocol, s.UID = uint16(r.uint(f.Type, sk)), uint16(r.uint(f.Protocol, sk)), uint32(r.uint(f.UID, sk))
		if socket := r.ptr(f.Socket, sk); socket != 0 {
			s.Inode = k.socketInode(r, f, socket)
		}
	}
	switch s.Family {
	case FamilyInet:
		s.Local, s.Remote = endpoints(r, f, sk, f.Local, f.Remote)
	case FamilyInet6:
		s.Local, s.Remote = endpoints(r, f, sk, f.Local6, f.Remote6)
	case FamilyUnix:
		s.Path = unixPath(r, f, sk)
	}
	return s
}

func endpoints(r *reader, f *socketFields, sk vmi.VirtAddr, local, remote Field) (l, m netip.AddrPort) {
	addr := func(f Field) netip.Addr {
		a, _ := netip.AddrFromSlice(r.bytes(f, sk))
		return a
	}
	remotePort := uint16(r.uint(f.RemotePort, sk))
	return netip.AddrPortFrom(addr(local), uint16(r.uint(f.LocalPort, sk))),
		netip.AddrPortFrom(addr(remote), remotePort<<8|remotePort>>8)
}

// unixPath returns the address that a Unix socket is bound to, if any.
func unixPath(r *reader, f *socketFields, sk vmi.VirtAddr) string {
	addr := r.ptr(f.UnixAddr, sk)
	if addr == 0 || r.err != nil {
		return ""
	}
	const family = 2
	n := int(int32(r.uint(f.UnixLen, addr))) - family
	if n <= 0 {
		return ""
	}
	if n > maxUnix+1 {
		r.fail(fmt.Errorf("%w: address of a Unix socket has %d bytes", ErrCorrupt, n))
	}
	name := r.text(r.in(f.UnixName, addr)+family, n)
	if strings.HasPrefix(name, "\x00") {
		return "@" + strings.ReplaceAll(name[1:], "\x00", "@")
	}
	name, _, _ = strings.Cut(name, "\x00")
	return name
}

// Sockets yields the TCP, UDP and Unix sockets of all network namespaces that
// the kernel has in its tables: what is listening, bound or connected, whether a
// process has it open or not. Sockets without an address are with the files of
// the processes that hold them, see [Task.Files].
func (k *Kernel) Sockets() iter.Seq2[Socket, error] {
	return func(yield func(Socket, error) bool) {
		f, err := k.fields.socket.of(k)
		if err == nil {
			w := socketWalk{k: k, f: f, r: &reader{s: k.as}, yield: yield}
			err = w.all()
		}
		if err != nil {
			yield(Socket{}, fmt.Errorf("sockets: %w", err))
		}
	}
}

type socketWalk struct {
	k     *Kernel
	f     *socketFields
	r     *reader
	count int
	done  bool
	yield func(Socket, error) bool
}

func (w *socketWalk) all() error {
	for _, table := range []func() error{w.tcp, w.udp, w.unix} {
		if err := table(); err != nil || w.done {
			return err
		}
		if w.r.err != nil {
			return w.r.err
		}
	}
	return nil
}

// chain yields the sockets of a hash chain, whose nodes are at an offset in
// them. The end of a chain is NULL, or an odd number in those that may be read
// while they change (hlist_nulls).
func (w *socketWalk) chain(head vmi.VirtAddr, offset uint32) error {
	next := Field{Path: "hash chain", Size: 8}
	for node := w.r.ptr(next, head); node != 0 && node&1 == 0 && !w.done; node = w.r.ptr(next, node) {
		if w.count++; w.count > maxSockets {
			return fmt.Errorf("%w: a hash chain does not end", ErrCorrupt)
		}
		s := w.k.sock(w.r, w.f, node-vmi.VirtAddr(offset))
		if w.r.err != nil {
			return w.r.err
		}
		w.done = !w.yield(s, nil)
	}
	return w.r.err
}

// buckets walks the chains of a table of n buckets, which have their heads at an
// offset.
func (w *socketWalk) buckets(table vmi.VirtAddr, n uint64, size uint32, head, node uint32) error {
	if w.r.err == nil && n > maxBuckets {
		return fmt.Errorf("%w: a hash table of %d buckets", ErrCorrupt, n)
	}
	for i := range n {
		if w.done || w.r.err != nil {
			break
		}
		if err := w.chain(table+vmi.VirtAddr(i*uint64(size)+uint64(head)), node); err != nil {
			return err
		}
	}
	return w.r.err
}

func (w *socketWalk) tcp() error {
	f, r := w.f, w.r
	info, err := w.k.syms.Lookup("tcp_hashinfo")
	if err != nil {
		return err
	}
	bucket, err := w.k.sizeof("inet_ehash_bucket")
	if err != nil {
		return err
	}
	if err := w.buckets(r.ptr(f.EHash, info), r.uint(f.EHashMask, info)+1, bucket, f.EHashChain.Offset, f.Node.Offset); err != nil {
		return err
	}
	if bucket, err = w.k.sizeof("inet_listen_hashbucket"); err != nil {
		return err
	}
	table, n := r.ptr(f.LHash, info), r.uint(f.LHashMask, info)+1
	if f.Listening.Size != 0 {
		table, n = r.in(f.Listening, info), uint64(f.Listening.Size/bucket)
	}
	return w.buckets(table, n, bucket, f.LHashHead.Offset, f.Node.Offset)
}

func (w *socketWalk) udp() error {
	f, r := w.f, w.r
	table, err := w.k.syms.Lookup("udp_table")
	if err != nil {
		return err
	}
	bucket, err := w.k.sizeof("udp_hslot")
	if err != nil {
		return err
	}
	return w.buckets(r.ptr(f.UDPHash, table), r.uint(f.UDPMask, table)+1, bucket, f.UDPHead.Offset, f.Node.Offset)
}

// unix walks the Unix sockets: one table up to 5.19, then one for each network
// namespace. Of those, that of the initial namespace is walked.
func (w *socketWalk) unix() error {
	const buckets = 512 // UNIX_HASH_SIZE: those with a path and those without
	if w.f.UnixBuckets.Size == 0 {
		table, err := w.k.syms.Lookup("unix_socket_table")
		if err != nil {
			return err
		}
		return w.buckets(table, buckets, 8, 0, w.f.Node.Offset)
	}
	net, err := w.k.syms.Lookup("init_net")
	if err != nil {
		return err
	}
	return w.buckets(w.r.ptr(w.f.UnixBuckets, net), buckets, 8, 0, w.f.Node.Offset)
}
