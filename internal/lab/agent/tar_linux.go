package agent

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/govmi/govmi/internal/lab/wire"
)

// diskRead is how much is read from a disk at once: every request to an
// emulated disk takes milliseconds, whatever its size.
const diskRead = 1 << 20

// Unpack writes a tar's folders, files and symbolic links below dir. A member
// that leads out of dir is an error.
func Unpack(r io.Reader, dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if err := unpackMember(root, h, tr); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
}

func unpackMember(root *os.Root, h *tar.Header, r io.Reader) error {
	name := path.Clean(h.Name)
	if name == "." {
		return nil
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, h.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	default:
		return fmt.Errorf("member of type %q", h.Typeflag)
	}
}

// writeResult writes dir/out and the captured files as a tar to the result
// disk and returns its length and checksum.
func writeResult(area Area, dir string, captured []string) (int64, uint32, error) {
	sum := wire.NewSum()
	w := &areaWriter{area: area}
	tw := tar.NewWriter(io.MultiWriter(w, sum))
	for _, name := range captured {
		if err := addFile(tw, dir, name); err != nil {
			return 0, 0, fmt.Errorf("agent: result: %w", err)
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, "out"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return addFile(tw, dir, filepath.ToSlash(name))
	})
	if err == nil {
		err = tw.Close()
	}
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("agent: result: %w", err)
	}
	return w.off, sum.Sum32(), nil
}

func addFile(tw *tar.Writer, dir, name string) error {
	p := filepath.Join(dir, filepath.FromSlash(name))
	fi, err := os.Lstat(p)
	if err != nil {
		return err
	}
	link := ""
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	case !fi.Mode().IsRegular() && !fi.IsDir():
		return nil // sockets and the like have no content to bring back
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	h.Name = name
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	// A file still growing must not exceed what its header says.
	_, err = io.CopyN(tw, f, fi.Size())
	return errors.Join(err, f.Close())
}

// resultChunk is the size of the result disk's writes, all but the last: a
// multiple of every sector size.
const resultChunk = 1 << 20

// ErrResultTooBig reports a result that the result disk cannot hold.
var ErrResultTooBig = errors.New("result does not fit the result disk")

type areaWriter struct {
	area Area
	off  int64
	buf  []byte
}

func (w *areaWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		take := min(len(b), resultChunk-len(w.buf))
		w.buf = append(w.buf, b[:take]...)
		b = b[take:]
		if len(w.buf) == resultChunk {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *areaWriter) flush() error {
	if w.off+int64(len(w.buf)) > w.area.Size() {
		return fmt.Errorf("%w of %d bytes", ErrResultTooBig, w.area.Size())
	}
	n, err := w.area.WriteAt(w.buf, w.off)
	w.off += int64(n)
	w.buf = w.buf[:0]
	return err
}
