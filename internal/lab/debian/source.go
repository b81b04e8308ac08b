package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/cache"
)

// SourcePackage is the files of one source package.
type SourcePackage struct {
	Name    string
	Version string
	Dir     string            // holds the files; read only
	files   map[string]string // names of the files that the archive had, with their SHA-256 where just fetched
}

// Source downloads the files of source package name in its newest version in suite, or in the given version if it is not empty. Every file
// is checked against the SHA-256 of the signed index.
//
// Mirrors may lack files of a source package; a missing file is an error only if its name ends in one of the given suffixes
// (".orig.tar.xz", ".dsc"), and those that match no file at all are errors too.
func Source(ctx context.Context, cacheDir, suiteName, name, version string, suffixes ...string) (*SourcePackage, error) {
	s := newSuite(cacheDir, suiteName)
	spec := "src:" + name + "=" + version
	if sp, err := s.recordedSource(spec, suffixes); sp != nil || err != nil {
		return sp, err
	}
	unlock, err := cache.Lock(ctx, filepath.Join(s.dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if sp, err := s.recordedSource(spec, suffixes); sp != nil || err != nil {
		return sp, err
	}
	if _, err := s.ensureLists(ctx); err != nil {
		return nil, err
	}
	out, err := s.apt(ctx, "", "apt-cache", "showsrc", name)
	if err != nil {
		return nil, fmt.Errorf("no source package %s in %s: %w", name, suiteName, err)
	}
	sp, err := s.pickSource(ctx, parseStanzas(out), name, version)
	if err != nil {
		return nil, err
	}
	sp.Dir, err = cache.Build(ctx, s.sourceDir(sp), func(dir string) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// apt fails if one file is missing; what it got is checked here.
		_, aptErr := s.apt(ctx, dir, "apt-get", "source", "--download-only", name+"="+sp.Version)
		if err := sp.check(dir, suffixes); err != nil {
			return errors.Join(fmt.Errorf("source package %s=%s: %w", name, sp.Version, err), aptErr)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rec, err := s.readRecord()
	if err != nil {
		return nil, err
	}
	rec[spec] = []release{{Name: sp.Name, Version: sp.Version}}
	if err := s.writeRecord(rec); err != nil {
		return nil, err
	}
	return sp, sp.check(sp.Dir, suffixes)
}

// File returns the path of the only file whose name ends in suffix.
func (sp *SourcePackage) File(suffix string) (string, error) {
	var found []string
	for f := range sp.files {
		if strings.HasSuffix(f, suffix) {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("source package %s=%s has %d files *%s: %w", sp.Name, sp.Version, len(found), suffix, fs.ErrNotExist)
	}
	return filepath.Join(sp.Dir, found[0]), nil
}

func (s *suite) sourceDir(sp *SourcePackage) string {
	return filepath.Join(s.dir, "src", sp.Name+"_"+strings.ReplaceAll(sp.Version, ":", "%3a"))
}

func (s *suite) recordedSource(spec string, suffixes []string) (*SourcePackage, error) {
	rec, err := s.readRecord()
	if err != nil {
		return nil, err
	}
	if len(rec[spec]) != 1 {
		return nil, nil
	}
	r := rec[spec][0]
	sp := &SourcePackage{Name: r.Name, Version: r.Version, files: map[string]string{}}
	sp.Dir = s.sourceDir(sp)
	des, err := os.ReadDir(sp.Dir)
	if err != nil {
		return nil, nil
	}
	for _, de := range des {
		sp.files[de.Name()] = ""
	}
	for _, suf := range suffixes {
		if _, err := sp.File(suf); err != nil {
			return nil, nil
		}
	}
	return sp, nil
}

// pickSource finds the stanza of a version, or the newest.
func (s *suite) pickSource(ctx context.Context, sts []stanza, name, version string) (*SourcePackage, error) {
	var best stanza
	for _, st := range sts {
		v := st["Version"]
		if st["Package"] != name && st["Source"] != name || v == "" || version != "" && v != version {
			continue
		}
		if best == nil || newer(ctx, v, best["Version"]) {
			best = st
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no source package %s %s in %s", name, version, s.name)
	}
	sp := &SourcePackage{Name: name, Version: best["Version"], files: map[string]string{}}
	for line := range strings.Lines(best["Checksums-Sha256"]) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == filepath.Base(f[2]) {
			sp.files[f[2]] = f[0]
		}
	}
	return sp, nil
}

// check verifies the files in dir, drops from sp.files what is not there, and insists on the suffixes.
func (sp *SourcePackage) check(dir string, suffixes []string) error {
	for f, sum := range sp.files {
		err := checkFile(filepath.Join(dir, f), sum)
		if errors.Is(err, fs.ErrNotExist) {
			delete(sp.files, f)
			continue
		}
		if err != nil {
			return err
		}
	}
	for _, suf := range suffixes {
		if _, err := sp.File(suf); err != nil {
			return err
		}
	}
	return nil
}
