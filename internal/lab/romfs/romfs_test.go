package romfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reader decodes an image by the format's description, the way that the kernel
// walks it.
type reader struct {
	b     []byte
	files map[string]string
}

func (r *reader) word(off int64) int64 { return int64(binary.BigEndian.Uint32(r.b[off:])) }

func cstring(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// resolve follows hard links, as the kernel does for every entry it opens.
func (r *reader) resolve(off int64) int64 {
	for range 4 {
		if r.word(off)&7 != typeHardLink {
			return off
		}
		off = r.word(off+4) &^ 15
	}
	return -1
}

func (r *reader) list(dir string, inode, parent int64, depth int) error {
	if depth > 8 {
		return errors.New("too deep")
	}
	if kind := r.word(inode) & 7; kind != typeDir {
		return fmt.Errorf("%s at %d is of type %d", dir, inode, kind)
	}
	seen := map[string]bool{}
	for off := r.word(inode+4) &^ 15; off != 0; off = r.word(off) &^ 15 {
		name := cstring(r.b[off+16:])
		if s := sum(r.b[off : off+entrySize(name)]); s != 0 {
			return fmt.Errorf("checksum of %s at %d is %#x", name, off, s)
		}
		if seen[name] {
			return fmt.Errorf("%s twice in %s", name, dir)
		}
		seen[name] = true
		target := r.resolve(off)
		switch {
		case name == ".":
			if target != inode {
				return fmt.Errorf("%s/. is %d, want %d", dir, target, inode)
			}
		case name == "..":
			if target != parent {
				return fmt.Errorf("%s/.. is %d, want %d", dir, target, parent)
			}
		case r.word(off)&7 == typeDir:
			if err := r.list(path.Join(dir, name), off, inode, depth+1); err != nil {
				return err
			}
		default:
			data := off + entrySize(name)
			r.files[path.Join(dir, name)] = string(r.b[data : data+r.word(off+8)])
		}
	}
	if !seen["."] || !seen[".."] {
		return fmt.Errorf("%s lacks . or ..", dir)
	}
	return nil
}

func read(b []byte, volume string) (map[string]string, error) {
	if string(b[:8]) != Magic || cstring(b[VolumeOffset:]) != volume {
		return nil, fmt.Errorf("superblock %q", b[:32])
	}
	r := &reader{b: b, files: map[string]string{}}
	size := r.word(8)
	if size > int64(len(b)) {
		return nil, fmt.Errorf("size %d of %d bytes", size, len(b))
	}
	if s := sum(b[:min(size, 512)]); s != 0 {
		return nil, fmt.Errorf("checksum of the superblock is %#x", s)
	}
	root := pad(VolumeOffset + int64(len(volume)) + 1)
	return r.files, r.list("", root, root, 0)
}

func TestWrite(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1000) + "x"
	tests := []struct {
		name  string
		files map[string]string
	}{
		{"empty", nil},
		{"one", map[string]string{"a": "content"}},
		{"empty file", map[string]string{"a": "", "b": ""}},
		{"folders", map[string]string{"guest/initrd.img": big, "guest/bookworm/vmlinuz": big, "guest/bookworm/kaslr.bin": "k", "bin/prog": "p", "z": "end"}},
		{"long name", map[string]string{strings.Repeat("n", 200): "x", "exactly15chars_": "y", "sixteen_chars_16": "z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			sources := map[string]string{}
			for i, name := range slices.Sorted(maps.Keys(tt.files)) {
				sources[name] = filepath.Join(dir, fmt.Sprint(i))
				if err := os.WriteFile(sources[name], []byte(tt.files[name]), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var buf bytes.Buffer
			if err := Write(&buf, "test-volume", sources); err != nil {
				t.Fatal(err)
			}
			if buf.Len()%1024 != 0 {
				t.Errorf("%d bytes", buf.Len())
			}
			got, err := read(buf.Bytes(), "test-volume")
			if err != nil {
				t.Fatal(err)
			}
			want := tt.files
			if want == nil {
				want = map[string]string{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"absolute":        {"/a": file},
		"leaves":          {"../a": file},
		"unclean":         {"a//b": file},
		"file and folder": {"a": file, "a/b": file},
		"folder":          {"a": t.TempDir()},
	} {
		if err := Write(io.Discard, "v", files); !errors.Is(err, ErrImage) {
			t.Errorf("%s: got %v, want ErrImage", name, err)
		}
	}
	if err := Write(io.Discard, "v", map[string]string{"a": file + "-missing"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
}
