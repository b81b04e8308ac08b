package xenstore

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// server reads n requests and answers each with what reply returns.
func server(t *testing.T, reply func(id uint32, body string) []byte) io.ReadWriteCloser {
	client, conn := net.Pipe()
	t.Cleanup(func() { conn.Close() })
	go func() {
		for id := uint32(1); ; id++ {
			hd := make([]byte, headerSize)
			if _, err := io.ReadFull(conn, hd); err != nil {
				return
			}
			body := make([]byte, hd[12])
			if _, err := io.ReadFull(conn, body); err != nil {
				return
			}
			if _, err := conn.Write(reply(id, string(body))); err != nil {
				return
			}
		}
	}()
	return client
}

func TestWatch(t *testing.T) {
	var got []string
	w, err := Watch(server(t, func(id uint32, body string) []byte {
		got = append(got, body)
		msg := message(typeWatch, id, "OK\x00")
		if id == 2 {
			msg = append(msg, message(typeWatchEvent, 0, "x\x00@introduceDomain\x00")...)
			msg = append(msg, message(typeWatchEvent, 0, "@releaseDomain\x00@releaseDomain\x00")...)
		}
		return msg
	}), IntroduceDomain, ReleaseDomain)
	if err != nil {
		t.Fatal(err)
	}
	if want := "@introduceDomain\x00@introduceDomain\x00|@releaseDomain\x00@releaseDomain\x00"; strings.Join(got, "|") != want {
		t.Errorf("requests %q", got)
	}
	for _, want := range []string{IntroduceDomain, ReleaseDomain} {
		if p, err := w.Next(); p != want || err != nil {
			t.Errorf("Next() = %q, %v, want %q", p, err, want)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Next(); err == nil {
		t.Error("Next after Close")
	}
}

func TestWatchRefused(t *testing.T) {
	for path, want := range map[string]error{"": syscall.EINVAL, "a\x00b": syscall.EINVAL, "/x": syscall.EACCES} {
		conn := server(t, func(id uint32, _ string) []byte { return message(typeError, id, "EACCES\x00") })
		if _, err := Watch(conn, path); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
		if _, err := conn.Write([]byte{0}); err == nil {
			t.Errorf("%q: the connection is open", path)
		}
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add(message(typeWatchEvent, 0, "p\x00t\x00"))
	f.Add(message(typeWatchEvent, 0, "p\x00"))
	f.Add(message(typeWatchEvent, 0, ""))
	f.Add(message(typeError, 1, "EINVAL\x00"))
	f.Add(make([]byte, headerSize-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readEvent(bytes.NewReader(b))
		if err == nil && (strings.ContainsRune(p, 0) || len(p) > payloadMax) {
			t.Errorf("%q", p)
		}
	})
}
