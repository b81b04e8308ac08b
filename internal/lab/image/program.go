package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
)

const libDir = "/lib/x86_64-linux-gnu"

// Program adds an ELF program or library of the tree together with its
// interpreter and every shared library that it needs, directly or not. The
// libraries are gathered in one folder that the dynamic linker searches by
// default, whatever their packages called it.
func (b *Builder) Program(name string) error {
	source, err := b.tree.Find(name)
	if err != nil {
		return err
	}
	if err := b.HostFile(name, 0o755, source); err != nil {
		return err
	}
	return b.needs(name, source)
}

// Library adds a library that is opened at run time, by its soname.
func (b *Builder) Library(soname string) error {
	name := path.Join(libDir, soname)
	if b.Has(name) {
		return nil
	}
	source, err := b.findLibrary(soname)
	if err != nil {
		return err
	}
	if err := b.HostFile(name, 0o755, source); err != nil {
		return err
	}
	return b.needs(soname, source)
}

func (b *Builder) findLibrary(soname string) (string, error) {
	dirs := []string{libDir, "/usr/lib/x86_64-linux-gnu", "/lib"}
	private, err := b.tree.Glob("/usr/lib/xen-*/lib/x86_64-linux-gnu")
	if err != nil {
		return "", err
	}
	for _, dir := range append(dirs, private...) {
		source, err := b.tree.Find(path.Join(dir, soname))
		if err == nil || !errors.Is(err, ErrNotFound) {
			return source, err
		}
	}
	return "", fmt.Errorf("%w: library %s", ErrNotFound, soname)
}

func (b *Builder) needs(name, source string) error {
	f, err := elf.Open(source)
	if err != nil {
		return fmt.Errorf("image: %s: %w", name, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		interp := make([]byte, p.Filesz)
		if _, err := p.ReadAt(interp, 0); err != nil {
			return fmt.Errorf("image: %s: interpreter: %w", name, err)
		}
		if err := b.Copy(string(interp[:len(interp)-1]), 0o755); err != nil {
			return fmt.Errorf("image: %s: interpreter: %w", name, err)
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("image: %s: %w", name, err)
	}
	for _, lib := range libs {
		if err := b.Library(lib); err != nil {
			return fmt.Errorf("image: %s: %w", name, err)
		}
	}
	return nil
}
