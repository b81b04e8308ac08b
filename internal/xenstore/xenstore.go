// Package xenstore reads from XenStore, over xenstored's socket or the
// kernel's device (xen/include/public/io/xs_wire.h).
package xenstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	typeDirectory  = 1
	typeRead       = 2
	typeWatchEvent = 15
	typeError      = 16

	headerSize = 16
	payloadMax = 4096

	// replyTimeout bounds the wait for a reply where the connection can.
	replyTimeout = 10 * time.Second
)

// Client is a connection to xenstored. Its methods may be called from several
// goroutines.
type Client struct {
	mu   sync.Mutex
	conn io.ReadWriteCloser
	id   uint32
	err  error // the connection is out of step since this
}

// New returns a client on an open connection, which it owns from then on.
func New(conn io.ReadWriteCloser) *Client { return &Client{conn: conn} }

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Read returns the value at path. It wraps syscall.ENOENT if there is none.
func (c *Client) Read(path string) (string, error) {
	b, err := c.talk(typeRead, path)
	if err != nil {
		return "", fmt.Errorf("xenstore read %s: %w", path, err)
	}
	return string(b), nil
}

// Directory returns the names of path's children. It wraps syscall.ENOENT if
// there is no such path, and syscall.E2BIG if they do not fit one reply.
func (c *Client) Directory(path string) ([]string, error) {
	b, err := c.talk(typeDirectory, path)
	if err != nil {
		return nil, fmt.Errorf("xenstore directory %s: %w", path, err)
	}
	return splitNames(b), nil
}

func splitNames(b []byte) []string {
	var names []string
	for name := range strings.SplitSeq(string(b), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (c *Client) talk(typ uint32, path string) ([]byte, error) {
	if path == "" || len(path) >= payloadMax || strings.ContainsRune(path, 0) {
		return nil, syscall.EINVAL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.id++
	if d, ok := c.conn.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(time.Now().Add(replyTimeout)) // not every connection can; then it waits
	}
	msg := make([]byte, headerSize, headerSize+len(path)+1)
	putHeader(msg, header{typ: typ, id: c.id, length: uint32(len(path) + 1)})
	msg = append(append(msg, path...), 0)
	if _, err := c.conn.Write(msg); err != nil {
		c.err = err
		return nil, err
	}
	b, err := readReply(c.conn, typ, c.id)
	var refused *refusal
	if err != nil && !errors.As(err, &refused) {
		c.err = err
	}
	return b, err
}

type header struct{ typ, id, tx, length uint32 }

func putHeader(b []byte, h header) {
	binary.NativeEndian.PutUint32(b[0:], h.typ)
	binary.NativeEndian.PutUint32(b[4:], h.id)
	binary.NativeEndian.PutUint32(b[8:], h.tx)
	binary.NativeEndian.PutUint32(b[12:], h.length)
}

// refusal is an error that xenstored sent; the connection is still in step.
type refusal struct {
	name  string
	errno syscall.Errno // zero if the name is not known here
}

func (r *refusal) Error() string { return "xenstored says " + r.name }

func (r *refusal) Unwrap() error {
	if r.errno == 0 {
		return nil
	}
	return r.errno
}

var errnos = map[string]syscall.Errno{
	"EINVAL": syscall.EINVAL,
	"EACCES": syscall.EACCES,
	"EPERM":  syscall.EPERM,
	"ENOENT": syscall.ENOENT,
	"ENOMEM": syscall.ENOMEM,
	"ENOSYS": syscall.ENOSYS,
	"E2BIG":  syscall.E2BIG,
	"EIO":    syscall.EIO,
	"EBUSY":  syscall.EBUSY,
}

// readReply reads messages up to the reply to request id. Watch events in
// between belong to nobody.
func readReply(r io.Reader, typ, id uint32) ([]byte, error) {
	for range 1024 {
		var hd [headerSize]byte
		if _, err := io.ReadFull(r, hd[:]); err != nil {
			return nil, err
		}
		h := header{
			typ:    binary.NativeEndian.Uint32(hd[0:]),
			id:     binary.NativeEndian.Uint32(hd[4:]),
			length: binary.NativeEndian.Uint32(hd[12:]),
		}
		if h.length > payloadMax {
			return nil, fmt.Errorf("reply of %d bytes, limit %d", h.length, payloadMax)
		}
		body := make([]byte, h.length)
		if _, err := io.ReadFull(r, body); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		switch {
		case h.typ == typeWatchEvent:
			continue
		case h.id != id:
			return nil, fmt.Errorf("reply to request %d, expected %d", h.id, id)
		case h.typ == typeError:
			name := string(bytes.TrimRight(body, "\x00"))
			return nil, &refusal{name: fmt.Sprintf("%.32q", name), errno: errnos[name]}
		case h.typ != typ:
			return nil, fmt.Errorf("reply of type %d, expected %d", h.typ, typ)
		}
		return body, nil
	}
	return nil, errors.New("too many watch events")
}
