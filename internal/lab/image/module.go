package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Modules adds kernel modules of a release and what they depend on, below
// /lib/modules, and returns their image paths in loading order. The packages
// come without modules.dep, so that the dependencies are read from the modules
// themselves. A module that the kernel has built in is skipped.
func (b *Builder) Modules(release string, names ...string) ([]string, error) {
	m := modules{builder: b, release: release, byName: map[string]string{}, builtin: map[string]bool{}}
	if err := m.index(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := m.add(name); err != nil {
			return nil, err
		}
	}
	return m.order, nil
}

type modules struct {
	builder *Builder
	release string
	byName  map[string]string // name -> file of this machine
	builtin map[string]bool
	order   []string
	added   []string
}

// moduleName is the name as the kernel spells it, from a file's or a user's.
func moduleName(file string) string {
	name := path.Base(filepath.ToSlash(file))
	name, _, _ = strings.Cut(name, ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (m *modules) index() error {
	for _, root := range m.builder.tree {
		for _, lib := range []string{"lib", "usr/lib"} {
			dir := filepath.Join(root, lib, "modules", m.release)
			err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if strings.HasSuffix(p, ".ko") || strings.HasSuffix(p, ".ko.xz") {
					m.byName[moduleName(p)] = p
				}
				if d.Name() != "modules.builtin" {
					return nil
				}
				list, err := os.ReadFile(p)
				for _, line := range strings.Fields(string(list)) {
					m.builtin[moduleName(line)] = true
				}
				return err
			})
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("image: modules of %s: %w", m.release, err)
			}
		}
	}
	if len(m.byName) == 0 {
		return fmt.Errorf("%w: no modules of kernel %s", ErrNotFound, m.release)
	}
	return nil
}

func (m *modules) add(name string) error {
	name = moduleName(name)
	if slices.Contains(m.added, name) {
		return nil
	}
	m.added = append(m.added, name)
	source, ok := m.byName[name]
	if !ok {
		if m.builtin[name] {
			return nil
		}
		return fmt.Errorf("%w: module %s of kernel %s", ErrNotFound, name, m.release)
	}
	data, err := readModule(source)
	if err != nil {
		return err
	}
	deps, err := moduleDepends(data)
	if err != nil {
		return fmt.Errorf("image: module %s: %w", name, err)
	}
	for _, dep := range deps {
		if err := m.add(dep); err != nil {
			return fmt.Errorf("image: module %s: %w", name, err)
		}
	}
	file := path.Join("/lib/modules", m.release, name+".ko")
	m.builder.File(file, 0o644, data)
	m.order = append(m.order, file)
	return nil
}

func readModule(source string) ([]byte, error) {
	if !strings.HasSuffix(source, ".xz") {
		data, err := os.ReadFile(source)
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		return data, nil
	}
	// Debian compresses modules from trixie on; there is no xz in Go's library.
	data, err := exec.Command("xz", "-dc", source).Output()
	if err != nil {
		return nil, fmt.Errorf("image: unpack %s (package xz-utils): %w", source, err)
	}
	return data, nil
}

func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
