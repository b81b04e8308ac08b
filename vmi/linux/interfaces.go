package linux

import (
	"fmt"
	"iter"
	"net"
	"net/netip"

	"github.com/govmi/govmi/vmi"
)

// Interface is a network interface.
type Interface struct {
	Index, MTU int
	Name       string
	// Flags are those of netdevice(7): 1 is IFF_UP, 8 IFF_LOOPBACK.
	Flags    uint32
	Hardware HardwareAddr `json:",omitempty"`
	Addrs    []netip.Prefix
}

// HardwareAddr is a link's own address.
type HardwareAddr []byte

func (a HardwareAddr) String() string { return net.HardwareAddr(a).String() }

// MarshalText implements [encoding.TextMarshaler].
func (a HardwareAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

type interfaceFields struct {
	Devices   Field `btf:"net.dev_base_head"`
	List      Field `btf:"net_device.dev_list"`
	Name      Field `btf:"net_device.name"`
	Index     Field `btf:"net_device.ifindex"`
	MTU       Field `btf:"net_device.mtu"`
	Flags     Field `btf:"net_device.flags"`
	Addr      Field `btf:"net_device.dev_addr"`
	AddrLen   Field `btf:"net_device.addr_len"`
	IPv4      Field `btf:"net_device.ip_ptr"`
	IPv6      Field `btf:"net_device.ip6_ptr"`
	IPv4List  Field `btf:"in_device.ifa_list"`
	IPv4Next  Field `btf:"in_ifaddr.ifa_next"`
	IPv4Local Field `btf:"in_ifaddr.ifa_local"`
	IPv4Bits  Field `btf:"in_ifaddr.ifa_prefixlen"`
	IPv6List  Field `btf:"inet6_dev.addr_list"`
	IPv6Addr  Field `btf:"inet6_ifaddr.addr"`
	IPv6Bits  Field `btf:"inet6_ifaddr.prefix_len"`
	IPv6Link  Field `btf:"inet6_ifaddr.if_list"`
}

const (
	maxHardwareAddr = 32
	maxAddrs        = 1 << 16 // of an interface
)

// Interfaces yields the network interfaces of the initial namespace, with their
// addresses.
func (k *Kernel) Interfaces() iter.Seq2[Interface, error] {
	return func(yield func(Interface, error) bool) {
		f, err := k.fields.iface.of(k)
		if err != nil {
			yield(Interface{}, err)
			return
		}
		init, err := k.syms.Lookup("init_net")
		if err != nil {
			yield(Interface{}, err)
			return
		}
		for dev, err := range k.list(init+vmi.VirtAddr(f.Devices.Offset), f.List.Offset) {
			var i Interface
			if err == nil {
				i, err = k.iface(f, dev)
			}
			if err != nil {
				err = fmt.Errorf("network interfaces: %w", err)
			}
			if !yield(i, err) || err != nil {
				return
			}
		}
	}
}

func (k *Kernel) iface(f *interfaceFields, dev vmi.VirtAddr) (Interface, error) {
	r := &reader{s: k.as}
	i := Interface{
		Index: int(int32(r.uint(f.Index, dev))), MTU: int(r.uint(f.MTU, dev)), Name: r.name(f.Name, dev),
		Flags: uint32(r.uint(f.Flags, dev)),
	}
	if n := r.uint(f.AddrLen, dev); n > 0 {
		i.Hardware = HardwareAddr(r.text(r.ptr(f.Addr, dev), int(min(n, maxHardwareAddr))))
	}
	if in := r.ptr(f.IPv4, dev); in != 0 {
		for a := r.ptr(f.IPv4List, in); a != 0; a = r.ptr(f.IPv4Next, a) {
			if len(i.Addrs) >= maxAddrs {
				return i, fmt.Errorf("%w: the addresses of %s do not end", ErrCorrupt, i.Name)
			}
			i.Addrs = append(i.Addrs, prefix(r.bytes(f.IPv4Local, a), r.uint(f.IPv4Bits, a)))
		}
	}
	if in := r.ptr(f.IPv6, dev); in != 0 {
		for a, err := range k.list(r.in(f.IPv6List, in), f.IPv6Link.Offset) {
			if err != nil {
				return i, err
			}
			i.Addrs = append(i.Addrs, prefix(r.bytes(f.IPv6Addr, a), r.uint(f.IPv6Bits, a)))
		}
	}
	return i, r.err
}

func prefix(addr []byte, bits uint64) netip.Prefix {
	a, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(a, int(min(bits, 255)))
}
