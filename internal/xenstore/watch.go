package xenstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

const typeWatch = 4

// Special paths to watch: domains come and go.
const (
	IntroduceDomain = "@introduceDomain"
	ReleaseDomain   = "@releaseDomain"
)

// Watcher is a connection to xenstored that waits for changes.
type Watcher struct{ conn io.ReadWriteCloser }

// Watch has xenstored tell of changes at paths, on an open connection that the
// watcher owns from then on, also if Watch fails. Each path is told of at once,
// as if it had changed.
func Watch(conn io.ReadWriteCloser, paths ...string) (*Watcher, error) {
	w := &Watcher{conn: conn}
	for i, p := range paths {
		if err := w.watch(p, uint32(i+1)); err != nil {
			return nil, errors.Join(fmt.Errorf("xenstore watch %s: %w", p, err), conn.Close())
		}
	}
	return w, nil
}

func (w *Watcher) watch(path string, id uint32) error {
	body := path + "\x00" + path + "\x00" // the token is the path as well
	if path == "" || len(body) > payloadMax || strings.ContainsRune(path, 0) {
		return syscall.EINVAL
	}
	msg := make([]byte, headerSize, headerSize+len(body))
	putHeader(msg, header{typ: typeWatch, id: id, length: uint32(len(body))})
	if _, err := w.conn.Write(append(msg, body...)); err != nil {
		return err
	}
	_, err := readReply(w.conn, typeWatch, id)
	return err
}

// Next waits for the next change and returns the path that was watched.
func (w *Watcher) Next() (string, error) { return readEvent(w.conn) }

// Close ends the connection, and a Next that waits with an error.
func (w *Watcher) Close() error { return w.conn.Close() }

// readEvent reads a watch event, whose token is the path that was watched.
func readEvent(r io.Reader) (string, error) {
	var hd [headerSize]byte
	if _, err := io.ReadFull(r, hd[:]); err != nil {
		return "", err
	}
	typ, length := binary.NativeEndian.Uint32(hd[0:]), binary.NativeEndian.Uint32(hd[12:])
	if length > payloadMax {
		return "", fmt.Errorf("watch event of %d bytes, limit %d", length, payloadMax)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return "", err
	}
	if typ != typeWatchEvent {
		return "", fmt.Errorf("message of type %d in place of a watch event", typ)
	}
	parts := bytes.Split(body, []byte{0})
	if len(parts) < 3 || len(parts[2]) != 0 {
		return "", fmt.Errorf("watch event %.64q", body)
	}
	return string(parts[1]), nil
}
