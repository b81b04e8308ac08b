package guest

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/govmi/govmi/internal/lab/cpio"
)

// withFiles writes an initramfs to dir that has files of dom0 in addition, and
// returns its path. The kernel unpacks one archive after the other.
func withFiles(dir, ramdisk string, files map[string]string) (_ string, err error) {
	name := filepath.Join(dir, "initrd.img")
	out, err := os.Create(name)
	if err != nil {
		return "", fmt.Errorf("guest: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := appendFile(out, ramdisk); err != nil {
		return "", err
	}
	w := cpio.NewWriter(out)
	made := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := addFile(w, made, strings.TrimPrefix(path.Clean("/"+name), "/"), files[name]); err != nil {
			return "", err
		}
	}
	return name, w.Close()
}

func addFile(w *cpio.Writer, made map[string]bool, name, source string) error {
	for dir := range parents(name) {
		if made[dir] {
			continue
		}
		made[dir] = true
		if err := w.WriteHeader(cpio.Header{Name: dir, Mode: cpio.Dir | 0o755}); err != nil {
			return err
		}
	}
	fi, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if err := w.WriteHeader(cpio.Header{Name: name, Mode: cpio.Regular | 0o755, Size: fi.Size()}); err != nil {
		return err
	}
	return appendFile(w, source)
}

// parents yields the folders above name, from the outermost.
func parents(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range name {
			if name[i] == '/' && !yield(name[:i]) {
				return
			}
		}
	}
}

func appendFile(w io.Writer, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("guest: %s: %w", source, err)
	}
	return nil
}
