package xenfake

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// Messages of xenstored's protocol.
const (
	storeRead       = 2
	storeWatch      = 4
	storeWatchEvent = 15
	storeError      = 16
)

// storeConn is a connection to the fake xenstored. What is to be sent waits in a
// channel, so that a domain's change does not wait for whoever watches.
type storeConn struct {
	out     chan []byte
	watches []string
}

// serveStore answers reads of domains' names, and tells of domains that come and
// go, until the connection ends.
func serveStore(x *Xen) io.ReadWriteCloser {
	client, server := net.Pipe()
	const room = 256
	c := &storeConn{out: make(chan []byte, room)}
	x.mu.Lock()
	x.stores = append(x.stores, c)
	x.mu.Unlock()
	go func() {
		for msg := range c.out {
			if _, err := server.Write(msg); err != nil {
				break
			}
		}
		server.Close()
	}()
	go func() {
		defer func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.stores = slices.DeleteFunc(x.stores, func(o *storeConn) bool { return o == c })
			close(c.out)
		}()
		for {
			var hd [16]byte
			if _, err := io.ReadFull(server, hd[:]); err != nil {
				return
			}
			body := make([]byte, min(binary.NativeEndian.Uint32(hd[12:]), 4096))
			if _, err := io.ReadFull(server, body); err != nil {
				return
			}
			x.store(c, hd, string(body))
		}
	}()
	return client
}

func (c *storeConn) send(hd [16]byte, typ uint32, body string) {
	binary.NativeEndian.PutUint32(hd[0:], typ)
	binary.NativeEndian.PutUint32(hd[12:], uint32(len(body)))
	select {
	case c.out <- append(hd[:], body...):
	default: // whoever does not read that much learns nothing any more
	}
}

func (x *Xen) store(c *storeConn, hd [16]byte, body string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch path, rest, _ := strings.Cut(body, "\x00"); binary.NativeEndian.Uint32(hd[0:]) {
	case storeWatch:
		if rest != path+"\x00" { // the token
			c.send(hd, storeError, "EINVAL\x00")
			return
		}
		c.watches = append(c.watches, path)
		c.send(hd, storeWatch, "OK\x00")
		c.send([16]byte{}, storeWatchEvent, body)
	case storeRead:
		if x.cfg.StoreDenied {
			c.send(hd, storeError, "EACCES\x00")
			return
		}
		for _, d := range x.domains {
			if value, ok := d.stored()[path]; ok {
				c.send(hd, storeRead, value)
				return
			}
		}
		c.send(hd, storeError, "ENOENT\x00")
	default:
		c.send(hd, storeError, "ENOSYS\x00")
	}
}

// stored is what the toolstack wrote about the domain.
func (d *Domain) stored() map[string]string {
	vm := fmt.Sprintf("/vm/%x", d.uuid)
	entries := map[string]string{
		fmt.Sprintf("/local/domain/%d/vm", d.cfg.ID): vm,
		vm + "/start_time":                           fmt.Sprintf("%d.%02d", d.started/100, d.started%100),
	}
	if d.cfg.Name != "" {
		entries[fmt.Sprintf("/local/domain/%d/name", d.cfg.ID)] = d.cfg.Name
	}
	if d.wish != "" {
		entries[d.wishPath()] = d.wish
	}
	return entries
}

func (d *Domain) wishPath() string {
	return fmt.Sprintf("/local/domain/%d/control/shutdown", d.cfg.ID)
}

// RequestShutdown is the toolstack's wish that the guest suspend itself, or whatever
// it says.
func (d *Domain) RequestShutdown(what string) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	d.wish = what
	d.x.changed(d.wishPath())
}

// changed tells whoever watches that domains have come or gone. x.mu is held.
func (x *Xen) changed(path string) {
	for _, c := range x.stores {
		if slices.Contains(c.watches, path) {
			c.send([16]byte{}, storeWatchEvent, path+"\x00"+path+"\x00")
		}
	}
}
