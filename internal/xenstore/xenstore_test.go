package xenstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func message(typ, id uint32, body string) []byte {
	b := make([]byte, headerSize)
	putHeader(b, header{typ: typ, id: id, length: uint32(len(body))})
	return append(b, body...)
}

// answer plays xenstored for one request, which must be want.
func answer(t *testing.T, conn net.Conn, want []byte, replies ...[]byte) {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request: %s", diff)
	}
	for _, r := range replies {
		if _, err := conn.Write(r); err != nil {
			t.Error(err)
		}
	}
}

func TestClient(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := New(near)
	defer c.Close()

	go answer(t, far, message(typeRead, 1, "/local/domain/1/name\x00"), message(typeRead, 1, "guest"))
	if got, err := c.Read("/local/domain/1/name"); got != "guest" || err != nil {
		t.Errorf("Read = %q, %v", got, err)
	}
	// A watch event that nobody asked for comes in between.
	go answer(t, far, message(typeDirectory, 2, "/local\x00"),
		message(typeWatchEvent, 0, "@releaseDomain\x00x\x00"), message(typeDirectory, 2, "domain\x00pool\x00"))
	got, err := c.Directory("/local")
	if diff := cmp.Diff([]string{"domain", "pool"}, got); diff != "" || err != nil {
		t.Errorf("Directory: %s, %v", diff, err)
	}
	go answer(t, far, message(typeRead, 3, "/x\x00"), message(typeError, 3, "ENOENT\x00"))
	if _, err := c.Read("/x"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Read of nothing: %v", err)
	}
	// A refusal leaves the connection usable; a reply to something else does not.
	go answer(t, far, message(typeRead, 4, "/x\x00"), message(typeError, 4, "EODD"))
	if _, err := c.Read("/x"); err == nil || !strings.Contains(err.Error(), "EODD") {
		t.Errorf("Read with an unknown refusal: %v", err)
	}
	for _, path := range []string{"", "/a\x00b", strings.Repeat("x", 5000)} {
		if _, err := c.Read(path); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Read of a path of %d bytes: %v", len(path), err)
		}
	}
	go answer(t, far, message(typeRead, 5, "/x\x00"), message(typeRead, 77, "guest"))
	if _, err := c.Read("/x"); err == nil {
		t.Error("a reply to another request was taken")
	}
	if _, err := c.Read("/x"); err == nil {
		t.Error("the connection was used on")
	}
}

func TestReadReplyErrors(t *testing.T) {
	huge := message(typeRead, 1, "")
	binary.NativeEndian.PutUint32(huge[12:], 1<<31)
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"half header":  message(typeRead, 1, "")[:7],
		"no body":      message(typeRead, 1, "x")[:headerSize],
		"too long":     huge,
		"another type": message(typeDirectory, 1, "x"),
		"only watches": bytes.Repeat(message(typeWatchEvent, 0, ""), 2000),
	} {
		if got, err := readReply(bytes.NewReader(b), typeRead, 1); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add(message(typeRead, 1, "guest"))
	f.Add(append(message(typeWatchEvent, 0, "x"), message(typeError, 1, "ENOENT\x00")...))
	f.Add(message(typeDirectory, 1, "a\x00b\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readReply(bytes.NewReader(b), typeRead, 1)
		if len(got) > payloadMax || err != nil && got != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		for _, n := range splitNames(b) {
			if n == "" || strings.ContainsRune(n, 0) {
				t.Errorf("name %q", n)
			}
		}
	})
}
