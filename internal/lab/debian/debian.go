// Package debian fetches packages of Debian into a cache folder and unpacks them there. Nothing is installed, no step needs root, and the
// suite need not be that of the machine.
//
// Versions are resolved once and recorded: as long as the record and the unpacked packages exist, [Fetch] runs no program and uses no network.
package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/cache"
)

// Package is one unpacked binary package.
type Package struct {
	Name    string
	Version string
	SHA256  string // of the .deb file, as the archive's signed index states it
	Dir     string // root of the unpacked files; read only
}

// Fetch returns the packages that specs name, in the version that suite ("bookworm") and its security updates offer, unpacked below cacheDir.
//
// A spec is the name of a package, or META>PREFIX for the package that META depends on whose name begins with PREFIX:
// "linux-image-amd64>linux-image-". Dependencies are not followed otherwise. Only amd64.
func Fetch(ctx context.Context, cacheDir, suite string, specs ...string) (*Tree, error) {
	s := newSuite(cacheDir, suite)
	if t, err := s.recorded(specs); t != nil || err != nil {
		return t, err
	}
	unlock, err := cache.Lock(ctx, filepath.Join(s.dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err := s.recorded(specs); t != nil || err != nil {
		return t, err
	}
	fresh, err := s.ensureLists(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.fetch(ctx, specs)
	if err != nil && !fresh && ctx.Err() == nil {
		// The mirror drops old versions: look again with new lists.
		if err := s.update(ctx); err != nil {
			return nil, err
		}
		t, err = s.fetch(ctx, specs)
	}
	return t, err
}

// Refresh forgets the versions that were recorded for suite and gets the archive's current lists, so that the next [Fetch] sees new versions.
func Refresh(ctx context.Context, cacheDir, suite string) error {
	s := newSuite(cacheDir, suite)
	unlock, err := cache.Lock(ctx, filepath.Join(s.dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	return s.update(ctx)
}

func (s *suite) recorded(specs []string) (*Tree, error) {
	rec, err := s.readRecord()
	if err != nil {
		return nil, err
	}
	var pkgs []Package
	for _, spec := range specs {
		r, ok := rec[spec]
		if !ok {
			return nil, nil
		}
		p := s.pkg(r)
		if _, err := os.Stat(p.Dir); err != nil {
			return nil, nil
		}
		pkgs = append(pkgs, p)
	}
	return newTree(s.name, specs, pkgs), nil
}

func (s *suite) fetch(ctx context.Context, specs []string) (*Tree, error) {
	rec, err := s.readRecord()
	if err != nil {
		return nil, err
	}
	var missing []release
	for _, spec := range specs {
		r, ok := rec[spec]
		if !ok {
			if r, err = s.resolve(ctx, spec); err != nil {
				return nil, err
			}
			rec[spec] = r
		}
		if _, err := os.Stat(s.pkg(r).Dir); err != nil {
			missing = append(missing, r)
		}
	}
	if err := s.download(ctx, missing); err != nil {
		return nil, err
	}
	if err := s.writeRecord(rec); err != nil {
		return nil, err
	}
	return s.recorded(specs)
}

// resolve asks the lists for the version that a spec stands for.
func (s *suite) resolve(ctx context.Context, spec string) (release, error) {
	name, prefix, isMeta := strings.Cut(spec, ">")
	st, err := s.show(ctx, name)
	if err != nil {
		return release{}, err
	}
	if isMeta {
		dep := ""
		for d := range strings.SplitSeq(st["Depends"], ",") {
			d, _, _ = strings.Cut(strings.TrimSpace(d), " ")
			if strings.HasPrefix(d, prefix) {
				dep = d
				break
			}
		}
		if dep == "" {
			return release{}, fmt.Errorf("package %s of %s depends on no package %s*", name, s.name, prefix)
		}
		if st, err = s.show(ctx, dep); err != nil {
			return release{}, err
		}
	}
	r := release{Name: st["Package"], Version: st["Version"], SHA256: st["SHA256"]}
	if r.Name == "" || r.Version == "" || r.SHA256 == "" {
		return release{}, fmt.Errorf("package %s of %s: incomplete entry in the archive's index", name, s.name)
	}
	return r, nil
}

func (s *suite) show(ctx context.Context, name string) (stanza, error) {
	out, err := s.apt(ctx, "", "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return nil, fmt.Errorf("no package %s in %s: %w", name, s.name, err)
	}
	for _, st := range parseStanzas(out) {
		if st["Package"] == name {
			return st, nil
		}
	}
	return nil, fmt.Errorf("no package %s in %s", name, s.name)
}

// download gets and unpacks the releases; apt checks the files against the signed index.
func (s *suite) download(ctx context.Context, rs []release) error {
	if len(rs) == 0 {
		return nil
	}
	tmp := filepath.Join(s.dir, "download.tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	args := []string{"download"}
	for _, r := range rs {
		args = append(args, r.Name+"="+r.Version)
	}
	if _, err := s.apt(ctx, tmp, "apt-get", args...); err != nil {
		return fmt.Errorf("download packages of %s: %w", s.name, err)
	}
	for _, r := range rs {
		debs, err := filepath.Glob(filepath.Join(tmp, r.Name+"_*.deb"))
		if err != nil || len(debs) != 1 {
			return fmt.Errorf("download %s=%s: got files %q", r.Name, r.Version, debs)
		}
		if err := checkFile(debs[0], r.SHA256); err != nil {
			return err
		}
		_, err = cache.Build(ctx, s.pkg(r).Dir, func(dir string) error {
			if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], dir).CombinedOutput(); err != nil {
				return fmt.Errorf("unpack %s: %w: %s", filepath.Base(debs[0]), err, strings.TrimSpace(string(out)))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
