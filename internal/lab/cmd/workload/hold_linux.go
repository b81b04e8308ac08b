package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// holdMany opens what a process can have open, until release is called.
func holdMany() (release func(), err error) {
	var close []func() error
	release = func() {
		for _, f := range close {
			_ = f() // the end of the process does it as well
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	hold := func(what string, c interface{ Close() error }, err error) error {
		if err != nil {
			return fmt.Errorf("hold %s: %w", what, err)
		}
		close = append(close, c.Close)
		return nil
	}
	fd := func(what string, n int, err error) error {
		if err != nil {
			return fmt.Errorf("hold %s: %w", what, err)
		}
		close = append(close, func() error { return unix.Close(n) })
		return nil
	}
	// Sockets, each connected with another of this process.
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		addr := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": "/tmp/hold.sock"}[network]
		l, err := net.Listen(network, addr)
		if err := hold(network, l, err); err != nil {
			return release, err
		}
		c, err := net.Dial(network, l.Addr().String())
		if err := hold(network, c, err); err != nil {
			return release, err
		}
		a, err := l.Accept()
		if err := hold(network, a, err); err != nil {
			return release, err
		}
	}
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5353})
	if err := hold("udp", u, err); err != nil {
		return release, err
	}
	d, err := net.Dial("udp4", u.LocalAddr().String())
	if err := hold("udp", d, err); err != nil {
		return release, err
	}
	u6, err := net.ListenUDP("udp6", nil)
	if err := hold("udp6", u6, err); err != nil {
		return release, err
	}
	abstract, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@hold-abstract", Net: "unixgram"})
	if err := hold("abstract socket", abstract, err); err != nil {
		return release, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err := errors.Join(fd("pair", pair[0], err), fd("pair", pair[1], err)); err != nil {
		return release, err
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err := fd("netlink", nl, err); err != nil {
		return release, err
	}
	// Files.
	var p [2]int
	err = unix.Pipe(p[:])
	if err := errors.Join(fd("pipe", p[0], err), fd("pipe", p[1], err)); err != nil {
		return release, err
	}
	m, err := unix.MemfdCreate("hold-memfd", 0)
	if err := fd("memfd", m, err); err != nil {
		return release, err
	}
	e, err := unix.Eventfd(0, 0)
	if err := fd("eventfd", e, err); err != nil {
		return release, err
	}
	deep, err := os.Create("/tmp/hold name with spaces")
	if err := hold("file", deep, err); err != nil {
		return release, err
	}
	deleted, err := os.Create("/tmp/hold.deleted")
	if err := hold("file", deleted, err); err != nil {
		return release, err
	}
	if _, err := deleted.WriteString("gone"); err != nil {
		return release, err
	}
	if err := os.Remove(deleted.Name()); err != nil {
		return release, err
	}
	dir, err := os.Open("/proc/self/task")
	if err := hold("directory", dir, err); err != nil {
		return release, err
	}
	if err := unix.Ftruncate(m, 3<<12); err != nil {
		return release, err
	}
	page, err := unix.Mmap(m, 1<<12, 2<<12, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return release, fmt.Errorf("hold map: %w", err)
	}
	close = append(close, func() error { return unix.Munmap(page) })
	return release, nil
}
