// Package romfs writes images of romfs, the kernel's simplest read-only file
// system (Documentation/filesystems/romfs.rst). dom0 mounts the lab's kit with
// it, so that only what a job uses is ever read from the emulated disk.
package romfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// Magic begins every image; the volume's name is at [VolumeOffset], ended by a
// zero byte.
const (
	Magic        = "-rom1fs-"
	VolumeOffset = 16
)

// ErrImage reports content that the format cannot hold.
var ErrImage = errors.New("romfs: cannot be written")

const (
	align    = 16
	headSize = 16
	// maxSize is the largest image in bytes; the format's offsets are unsigned,
	// but the kernel reads file sizes as signed numbers.
	maxSize = 1<<31 - 1

	typeHardLink = 0
	typeDir      = 1
	typeRegular  = 2
	execute      = 8
)

// node is a file or folder with its place in the image.
type node struct {
	name     string
	dir      bool
	children []*node // sorted by name
	source   string
	size     int64
	// offset of the header; a folder's first member is its "." entry.
	offset int64
}

// Write writes an image that holds the given files of this machine under their
// names in the image (relative, with slashes). All are executable and owned by
// root. The image's length is a multiple of 1024 bytes.
func Write(w io.Writer, volume string, files map[string]string) error {
	if len(volume) > 64 || strings.Contains(volume, "\x00") {
		return fmt.Errorf("%w: volume name %q", ErrImage, volume)
	}
	root := &node{dir: true}
	for name, source := range files {
		if err := root.add(name, source); err != nil {
			return err
		}
	}
	start := pad(VolumeOffset + int64(len(volume)) + 1)
	end, err := root.place(start)
	if err != nil {
		return err
	}
	out := &writer{w: w}
	if err := out.superblock(volume, end, root); err != nil {
		return err
	}
	if err := out.members(root, root); err != nil {
		return err
	}
	return out.zeros((1024 - out.off%1024) % 1024)
}

func (n *node) add(name, source string) error {
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || strings.HasPrefix(name, "..") || strings.Contains(name, "\x00") {
		return fmt.Errorf("%w: name %q", ErrImage, name)
	}
	fi, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("romfs: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a file", ErrImage, source)
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		at, found := slices.BinarySearchFunc(n.children, part, func(c *node, s string) int { return strings.Compare(c.name, s) })
		last := i == len(parts)-1
		if found && (last || !n.children[at].dir) {
			return fmt.Errorf("%w: %s is both a file and a folder", ErrImage, name)
		}
		if !found {
			child := &node{name: part, dir: !last}
			if last {
				child.source, child.size = source, fi.Size()
			}
			n.children = slices.Insert(n.children, at, child)
		}
		n = n.children[at]
	}
	return nil
}

// place gives the members of a folder their offsets, from off on: the "." and
// ".." entries, then each child followed by its content or members.
func (n *node) place(off int64) (int64, error) {
	off += entrySize(".") + entrySize("..")
	for _, c := range n.children {
		c.offset = off
		off += entrySize(c.name)
		if c.dir {
			var err error
			if off, err = c.place(off); err != nil {
				return 0, err
			}
			continue
		}
		off += pad(c.size)
		if off > maxSize {
			return 0, fmt.Errorf("%w: more than %d bytes", ErrImage, int64(maxSize))
		}
	}
	return off, nil
}

// first is where a folder's members begin.
func (n *node) first(rootStart int64) int64 {
	if n.offset == 0 {
		return rootStart
	}
	return n.offset + entrySize(n.name)
}

func pad(n int64) int64 { return (n + align - 1) &^ (align - 1) }

func entrySize(name string) int64 { return headSize + pad(int64(len(name))+1) }

type writer struct {
	w     io.Writer
	off   int64
	start int64 // of the root's members
}

// superblock's checksum covers the first 512 bytes of the image, in which the
// first entries lie already; so these are made twice, here for the sum.
func (w *writer) superblock(volume string, size int64, root *node) error {
	w.start = pad(VolumeOffset + int64(len(volume)) + 1)
	head := make([]byte, w.start)
	copy(head, Magic)
	binary.BigEndian.PutUint32(head[8:], uint32(size))
	copy(head[VolumeOffset:], volume)
	begin := &prefix{left: 512 - int(w.start)}
	probe := &writer{w: begin, off: w.start, start: w.start}
	if err := probe.members(root, root); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	covered := slices.Concat(head, begin.data)
	covered = covered[:min(int64(len(covered)), size, 512)]
	binary.BigEndian.PutUint32(head[12:], -sum(covered))
	return w.bytes(head)
}

var errEnough = errors.New("romfs: enough")

// prefix keeps the first bytes written to it.
type prefix struct {
	data []byte
	left int
}

func (p *prefix) Write(b []byte) (int, error) {
	n := min(len(b), p.left)
	p.data = append(p.data, b[:n]...)
	if p.left -= n; p.left == 0 {
		return n, errEnough
	}
	return n, nil
}

func (w *writer) members(n, parent *node) error {
	first := n.first(w.start)
	next := first + entrySize(".") + entrySize("..")
	// "." is the folder itself for the root, a link to it below.
	kind, target := uint32(typeHardLink), n.offset
	if n.offset == 0 {
		kind, target = typeDir|execute, first
	}
	if err := w.entry(".", kind, first+entrySize("."), target, 0); err != nil {
		return err
	}
	up := parent.offset
	if up == 0 {
		up = w.start
	}
	after := next
	if len(n.children) == 0 {
		after = 0
	}
	if err := w.entry("..", typeHardLink, after, up, 0); err != nil {
		return err
	}
	for i, c := range n.children {
		after := int64(0)
		if i+1 < len(n.children) {
			after = n.children[i+1].offset
		}
		if c.dir {
			if err := w.entry(c.name, typeDir|execute, after, c.first(w.start), 0); err != nil {
				return err
			}
			if err := w.members(c, n); err != nil {
				return err
			}
			continue
		}
		if err := w.entry(c.name, typeRegular|execute, after, 0, c.size); err != nil {
			return err
		}
		if err := w.content(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) entry(name string, kind uint32, next, target, size int64) error {
	b := make([]byte, entrySize(name))
	binary.BigEndian.PutUint32(b, uint32(next)|kind)
	binary.BigEndian.PutUint32(b[4:], uint32(target))
	binary.BigEndian.PutUint32(b[8:], uint32(size))
	copy(b[headSize:], name)
	binary.BigEndian.PutUint32(b[12:], -sum(b))
	return w.bytes(b)
}

func (w *writer) content(n *node) (err error) {
	f, err := os.Open(n.source)
	if err != nil {
		return fmt.Errorf("romfs: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	copied, err := io.Copy(w.w, f)
	w.off += copied
	if err != nil {
		return fmt.Errorf("romfs: %s: %w", n.name, err)
	}
	if copied != n.size {
		return fmt.Errorf("%w: %s changed from %d to %d bytes", ErrImage, n.source, n.size, copied)
	}
	return w.zeros(pad(n.size) - n.size)
}

func (w *writer) bytes(b []byte) error {
	n, err := w.w.Write(b)
	w.off += int64(n)
	if err != nil {
		return fmt.Errorf("romfs: %w", err)
	}
	return nil
}

func (w *writer) zeros(n int64) error { return w.bytes(make([]byte, n)) }

// sum adds up big-endian words; with the checksum in its place it is zero.
func sum(b []byte) uint32 {
	var s uint32
	for ; len(b) >= 4; b = b[4:] {
		s += binary.BigEndian.Uint32(b)
	}
	return s
}
