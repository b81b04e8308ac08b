package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type member struct {
	Header
	Data  string
	Links uint64
}

// read decodes an archive by the format's description, independent of Writer.
func read(b []byte) ([]member, error) {
	var out []member
	off := 0
	take := func(n int) (string, error) {
		if off+n > len(b) {
			return "", io.ErrUnexpectedEOF
		}
		s := string(b[off : off+n])
		off += n
		return s, nil
	}
	for {
		h, err := take(110)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(h, "070701") {
			return nil, fmt.Errorf("magic %q at %d", h[:6], off-110)
		}
		var f [13]uint64
		for i := range f {
			if f[i], err = strconv.ParseUint(h[6+8*i:14+8*i], 16, 32); err != nil {
				return nil, err
			}
		}
		name, err := take(int(f[11]))
		if err != nil {
			return nil, err
		}
		off = (off + 3) &^ 3
		data, err := take(int(f[6]))
		if err != nil {
			return nil, err
		}
		off = (off + 3) &^ 3
		name, ok := strings.CutSuffix(name, "\x00")
		if !ok {
			return nil, fmt.Errorf("name %q without its NUL", name)
		}
		if name == "TRAILER!!!" {
			return out, nil
		}
		out = append(out, member{Header{Name: name, Mode: uint32(f[1]), Size: int64(f[6]), Major: uint32(f[9]), Minor: uint32(f[10])}, data, f[4]})
	}
}

func TestWriter(t *testing.T) {
	want := []member{
		{Header{Name: "bin", Mode: Dir | 0o755}, "", 2},
		{Header{Name: "bin/sh", Mode: Regular | 0o755, Size: 5}, "hello", 1},
		{Header{Name: "empty", Mode: Regular | 0o644}, "", 1},
		{Header{Name: "link", Mode: Symlink | 0o777, Size: 6}, "bin/sh", 1},
		{Header{Name: "dev/console", Mode: CharDev | 0o600, Major: 5, Minor: 1}, "", 1},
	}
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for _, m := range want {
		if err := w.WriteHeader(m.Header); err != nil {
			t.Fatal(err)
		}
		// In two pieces, as io.Copy might.
		for _, part := range []string{m.Data[:len(m.Data)/2], m.Data[len(m.Data)/2:]} {
			if _, err := io.WriteString(w, part); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if buf.Len()%512 != 0 {
		t.Errorf("archive of %d bytes is not a multiple of 512", buf.Len())
	}
	got, err := read(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriterMisuse(t *testing.T) {
	for _, name := range []string{"", "/abs", "a/../b", "../up", "a/"} {
		if err := NewWriter(io.Discard).WriteHeader(Header{Name: name}); !errors.Is(err, ErrWrite) {
			t.Errorf("name %q: got %v, want ErrWrite", name, err)
		}
	}
	w := NewWriter(io.Discard)
	if err := w.WriteHeader(Header{Name: "a", Size: 2}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, ErrWrite) {
		t.Errorf("closed with content missing: got %v, want ErrWrite", err)
	}
	if _, err := w.Write([]byte("abc")); !errors.Is(err, ErrWrite) {
		t.Errorf("too much content: got %v, want ErrWrite", err)
	}
}
