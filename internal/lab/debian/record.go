package debian

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// suite is the part of the cache that belongs to one suite of the archive.
type suite struct {
	name string
	dir  string
}

// release is one version of a package.
type release struct {
	Name    string
	Version string
	SHA256  string
}

func newSuite(cacheDir, name string) *suite {
	return &suite{name: name, dir: filepath.Join(cacheDir, "debian", name)}
}

func (s *suite) pkg(r release) Package {
	// A version may hold colons (epoch), which end a path in LD_LIBRARY_PATH.
	dir := r.Name + "_" + strings.ReplaceAll(r.Version, ":", "%3a")
	return Package{Name: r.Name, Version: r.Version, SHA256: r.SHA256, Dir: filepath.Join(s.dir, "pkg", dir)}
}

func (s *suite) recordPath() string { return filepath.Join(s.dir, "versions.json") }

// readRecord returns what each spec was resolved to; empty if there is no record.
func (s *suite) readRecord() (map[string][]release, error) {
	rec := map[string][]release{}
	b, err := os.ReadFile(s.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return rec, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return nil, fmt.Errorf("%s: %w", s.recordPath(), err)
	}
	return rec, nil
}

func (s *suite) writeRecord(rec map[string][]release) error {
	b, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return err
	}
	tmp := s.recordPath() + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.recordPath())
}

// checkFile compares a file with its SHA-256 in hexadecimal.
func checkFile(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s: SHA-256 is %s, the archive's index says %s", filepath.Base(path), got, want)
	}
	return nil
}
