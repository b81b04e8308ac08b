package xenfake

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
)

// serveStore answers reads of domains' names until the connection ends.
func serveStore(x *Xen) io.ReadWriteCloser {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			var hd [16]byte
			if _, err := io.ReadFull(server, hd[:]); err != nil {
				return
			}
			path := make([]byte, min(binary.NativeEndian.Uint32(hd[12:]), 4096))
			if _, err := io.ReadFull(server, path); err != nil {
				return
			}
			typ := binary.NativeEndian.Uint32(hd[:])
			reply, ok := x.store(typ, strings.TrimRight(string(path), "\x00"))
			if !ok {
				binary.NativeEndian.PutUint32(hd[:], 16)
				reply = "ENOENT\x00"
			}
			binary.NativeEndian.PutUint32(hd[12:], uint32(len(reply)))
			if _, err := server.Write(append(hd[:], reply...)); err != nil {
				return
			}
		}
	}()
	return client
}

func (x *Xen) store(typ uint32, path string) (string, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	const read = 2
	for id, d := range x.domains {
		if typ == read && path == fmt.Sprintf("/local/domain/%d/name", id) && d.cfg.Name != "" {
			return d.cfg.Name, true
		}
	}
	return "", false
}
