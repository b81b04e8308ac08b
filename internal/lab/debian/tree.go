package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Tree is a set of unpacked packages, looked at as if they were unpacked over each other.
type Tree struct {
	Suite string

	pkgs  []Package
	first map[string]int // spec to index in pkgs
}

// Packages returns the packages in the order in which they were asked for, each once.
func (t *Tree) Packages() []Package { return slices.Clone(t.pkgs) }

// Dirs returns the roots of the packages, in the same order.
func (t *Tree) Dirs() []string {
	var dirs []string
	for _, p := range t.pkgs {
		dirs = append(dirs, p.Dir)
	}
	return dirs
}

// Package returns the package that the given spec of [Fetch] names.
func (t *Tree) Package(spec string) (Package, bool) {
	i, ok := t.first[spec]
	if !ok {
		return Package{}, false
	}
	return t.pkgs[i], true
}

// Key identifies the packages and their versions: a hash of few characters, for names of things that are built from them.
func (t *Tree) Key() string {
	h := sha256.New()
	for _, p := range t.pkgs {
		fmt.Fprintln(h, p.Name, p.Version, p.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

const maxLinks = 40 // as the kernel's limit

// Path returns where on this machine the file or folder is that the packages install as name ("/usr/sbin/xl"; the leading slash may be
// absent). Symbolic links are followed within the tree, and a name below /bin, /sbin, /lib or /lib64 is also found below /usr and the other
// way round. The error wraps [fs.ErrNotExist] if no package holds it.
func (t *Tree) Path(name string) (string, error) {
	if host, ok := t.lookup(path.Clean("/" + name)); ok {
		return host, nil
	}
	return "", fmt.Errorf("%s in packages %s: %w", name, t.names(), fs.ErrNotExist)
}

func (t *Tree) lookup(name string) (string, bool) {
	if host, ok := t.follow(name); ok {
		return host, true
	}
	return t.follow(otherMerge(name))
}

// otherMerge returns the name under the other one of the two layouts, before and after the merge of / and /usr.
func otherMerge(name string) string {
	if rest, ok := strings.CutPrefix(name, "/usr"); ok {
		return rest
	}
	return "/usr" + name
}

func (t *Tree) follow(name string) (string, bool) {
	rest, cur := strings.Split(strings.Trim(name, "/"), "/"), "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		next := path.Join(cur, part)
		target, found := t.readlink(next)
		if !found {
			if next = otherMerge(next); !t.exists(next) {
				return "", false
			}
		}
		if target == "" {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", false
		}
		if path.IsAbs(target) {
			cur = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	for _, p := range t.pkgs {
		host := filepath.Join(p.Dir, cur)
		if _, err := os.Lstat(host); err == nil {
			return host, true
		}
	}
	return "", false
}

// readlink returns the target if name is a symbolic link in some package, and whether any package holds name at all.
func (t *Tree) readlink(name string) (target string, found bool) {
	for _, p := range t.pkgs {
		host := filepath.Join(p.Dir, name)
		fi, err := os.Lstat(host)
		if err != nil {
			continue
		}
		found = true
		if fi.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(host); err == nil {
				return target, true
			}
		}
	}
	return "", found
}

func (t *Tree) exists(name string) bool {
	_, found := t.readlink(name)
	return found
}

// Glob returns the machine's paths of all files that match a pattern of [path.Match] ("/lib/modules/*/kernel/drivers/xen/xenfs"), links not
// followed, package by package in lexical order.
func (t *Tree) Glob(pattern string) ([]string, error) {
	var all []string
	for _, p := range t.pkgs {
		for _, pat := range []string{path.Clean("/" + pattern), otherMerge(path.Clean("/" + pattern))} {
			m, err := filepath.Glob(filepath.Join(p.Dir, pat))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", pattern, err)
			}
			all = append(all, m...)
		}
	}
	return all, nil
}

// Command returns a command that runs the tree's program name ("/usr/bin/xorriso") on this machine, with the dynamic linker and the libraries
// of the tree (packages fetched with a plus sign) and none of the machine's.
func (t *Tree) Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	prog, err := t.Path(name)
	if err != nil {
		return nil, err
	}
	linker, err := t.Path("/lib64/ld-linux-x86-64.so.2")
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, linker, append([]string{"--library-path", t.libraryPath(), prog}, args...)...), nil
}

func (t *Tree) libraryPath() string {
	var dirs []string
	for _, p := range t.pkgs {
		for _, d := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"} {
			dir := filepath.Join(p.Dir, d)
			if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
				dirs = append(dirs, dir)
			}
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

func (t *Tree) names() string {
	var names []string
	for _, p := range t.pkgs {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}
