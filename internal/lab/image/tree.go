// Package image assembles initramfs images from unpacked Debian packages:
// programs together with the shared libraries that they need, kernel modules
// in loading order, and files made on the spot.
package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Tree is a list of folders with unpacked packages, searched in order as if
// they were one root file system.
type Tree []string

// ErrNotFound reports a file that no package of the tree holds.
var ErrNotFound = errors.New("image: not found in the packages")

// Find returns where the regular file name (absolute in the image) lies on
// this machine. Symbolic links are followed within the tree, and /bin, /sbin
// and /lib* are tried below /usr and the other way round, because packages
// differ in which of the merged names they use.
func (t Tree) Find(name string) (string, error) {
	return t.find(name, 0)
}

func (t Tree) find(name string, depth int) (string, error) {
	if depth > 16 {
		return "", fmt.Errorf("%w: %s: too many symbolic links", ErrNotFound, name)
	}
	name = path.Clean("/" + name)
	for _, alias := range aliases(name) {
		for _, root := range t {
			p := filepath.Join(root, alias)
			fi, err := os.Lstat(p)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				return "", fmt.Errorf("image: %w", err)
			case fi.Mode().IsRegular():
				return p, nil
			case fi.Mode()&fs.ModeSymlink != 0:
				target, err := os.Readlink(p)
				if err != nil {
					return "", fmt.Errorf("image: %w", err)
				}
				if !path.IsAbs(target) {
					target = path.Join(path.Dir(alias), target)
				}
				return t.find(target, depth+1)
			}
		}
	}
	return "", fmt.Errorf("%w: %s", ErrNotFound, name)
}

// Glob returns the names in the image (not on this machine) that match a
// pattern as of [path.Match], in the tree's order.
func (t Tree) Glob(pattern string) ([]string, error) {
	var names []string
	for _, alias := range aliases(path.Clean("/" + pattern)) {
		for _, root := range t {
			found, err := filepath.Glob(filepath.Join(root, alias))
			if err != nil {
				return nil, fmt.Errorf("image: %w", err)
			}
			for _, p := range found {
				names = append(names, strings.TrimPrefix(p, filepath.Clean(root)))
			}
		}
	}
	return names, nil
}

func aliases(name string) []string {
	if short, ok := strings.CutPrefix(name, "/usr"); ok {
		for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
			if strings.HasPrefix(short, dir) {
				return []string{name, short}
			}
		}
		return []string{name}
	}
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, dir) {
			return []string{name, "/usr" + name}
		}
	}
	return []string{name}
}
