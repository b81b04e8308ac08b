package image

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/govmi/govmi/internal/lab/cpio"
)

// Builder collects an image's content; Write writes it sorted, so that equal
// content gives equal bytes. Names are absolute paths in the image. It is for
// one goroutine.
type Builder struct {
	tree  Tree
	files map[string]entry
}

type entry struct {
	header cpio.Header
	data   []byte // or
	source string // a file of this machine
}

// NewBuilder returns a builder that takes files from tree.
func NewBuilder(tree Tree) *Builder {
	return &Builder{tree: tree, files: map[string]entry{}}
}

// Dir adds folders (mode 0755); parents come by themselves.
func (b *Builder) Dir(names ...string) {
	for _, name := range names {
		b.put(name, entry{header: cpio.Header{Mode: cpio.Dir | 0o755}})
	}
}

// File adds a file made on the spot.
func (b *Builder) File(name string, perm uint32, data []byte) {
	b.put(name, entry{header: cpio.Header{Mode: cpio.Regular | perm, Size: int64(len(data))}, data: data})
}

// Link adds a symbolic link.
func (b *Builder) Link(name, target string) {
	b.put(name, entry{header: cpio.Header{Mode: cpio.Symlink | 0o777, Size: int64(len(target))}, data: []byte(target)})
}

// Char adds a character device.
func (b *Builder) Char(name string, perm, major, minor uint32) {
	b.put(name, entry{header: cpio.Header{Mode: cpio.CharDev | perm, Major: major, Minor: minor}})
}

// HostFile adds a file of this machine.
func (b *Builder) HostFile(name string, perm uint32, source string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	b.put(name, entry{header: cpio.Header{Mode: cpio.Regular | perm, Size: fi.Size()}, source: source})
	return nil
}

// Copy adds a file of the tree under the same name.
func (b *Builder) Copy(name string, perm uint32) error {
	source, err := b.tree.Find(name)
	if err != nil {
		return err
	}
	return b.HostFile(name, perm, source)
}

// CopyAll adds the tree's files whose names match a pattern as of [path.Match],
// under the same names, and returns their number.
func (b *Builder) CopyAll(pattern string, perm uint32) (int, error) {
	names, err := b.tree.Glob(pattern)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := b.Copy(name, perm); err != nil {
			return 0, err
		}
	}
	return len(names), nil
}

// Has reports whether the image has an entry of that name.
func (b *Builder) Has(name string) bool {
	_, ok := b.files[clean(name)]
	return ok
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (b *Builder) put(name string, e entry) {
	name = clean(name)
	if name == "" {
		return
	}
	e.header.Name = name
	b.files[name] = e
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := b.files[dir]; ok {
			return
		}
		b.files[dir] = entry{header: cpio.Header{Name: dir, Mode: cpio.Dir | 0o755}}
	}
}

// Write writes the image as an uncompressed newc archive.
func (b *Builder) Write(w io.Writer) error {
	names := make([]string, 0, len(b.files))
	for name := range b.files {
		names = append(names, name)
	}
	slices.Sort(names) // a folder sorts before what is in it
	cw := cpio.NewWriter(w)
	for _, name := range names {
		if err := b.write(cw, b.files[name]); err != nil {
			return err
		}
	}
	return cw.Close()
}

func (b *Builder) write(cw *cpio.Writer, e entry) error {
	if err := cw.WriteHeader(e.header); err != nil {
		return err
	}
	if e.source == "" {
		_, err := cw.Write(e.data)
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(cw, f); err != nil {
		return fmt.Errorf("image: %s: %w", e.header.Name, err)
	}
	return nil
}
