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
	"slices"
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
// "linux-image-amd64>linux-image-". A plus sign at the end adds the libraries that a package's programs need: its dependencies that are
// libraries by their names, and theirs. Other dependencies are not followed. Only amd64.
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
	t := &Tree{Suite: s.name, first: map[string]int{}}
	index := map[Package]int{}
	for _, spec := range specs {
		rs := rec[spec]
		if len(rs) == 0 {
			return nil, nil
		}
		for i, r := range rs {
			p := s.pkg(r)
			if _, err := os.Stat(p.Dir); err != nil {
				return nil, nil
			}
			n, ok := index[p]
			if !ok {
				n = len(t.pkgs)
				index[p] = n
				t.pkgs = append(t.pkgs, p)
			}
			if i == 0 {
				t.first[spec] = n
			}
		}
	}
	return t, nil
}

func (s *suite) fetch(ctx context.Context, specs []string) (*Tree, error) {
	rec, err := s.readRecord()
	if err != nil {
		return nil, err
	}
	var missing []release
	for _, spec := range specs {
		if len(rec[spec]) == 0 {
			if rec[spec], err = s.resolve(ctx, spec); err != nil {
				return nil, err
			}
		}
		for _, r := range rec[spec] {
			if _, err := os.Stat(s.pkg(r).Dir); err != nil && !slices.Contains(missing, r) {
				missing = append(missing, r)
			}
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

// resolve asks the lists for the versions that a spec stands for; the named package comes first.
func (s *suite) resolve(ctx context.Context, spec string) ([]release, error) {
	spec, withLibs := strings.CutSuffix(spec, "+")
	name, prefix, isMeta := strings.Cut(spec, ">")
	st, err := s.show(ctx, name)
	if err != nil {
		return nil, err
	}
	if isMeta {
		deps := dependencies(st[0])
		i := slices.IndexFunc(deps, func(d string) bool { return strings.HasPrefix(d, prefix) })
		if i < 0 {
			return nil, fmt.Errorf("package %s of %s depends on no package %s*", name, s.name, prefix)
		}
		if st, err = s.show(ctx, deps[i]); err != nil {
			return nil, err
		}
	}
	sts := []stanza{st[0]}
	if withLibs {
		libs, err := s.libraries(ctx, st[0])
		if err != nil {
			return nil, err
		}
		sts = append(sts, libs...)
	}
	var rs []release
	for _, st := range sts {
		r := release{Name: st["Package"], Version: st["Version"], SHA256: st["SHA256"]}
		if r.Name == "" || r.Version == "" || r.SHA256 == "" {
			return nil, fmt.Errorf("package %s of %s: incomplete entry in the archive's index", name, s.name)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// libraries returns the library packages that a package needs, directly or through libraries.
func (s *suite) libraries(ctx context.Context, root stanza) ([]stanza, error) {
	var all []stanza
	seen := map[string]bool{root["Package"]: true}
	for level := []stanza{root}; len(level) > 0; {
		var names []string
		for _, st := range level {
			for _, d := range dependencies(st) {
				if isLibrary(d) && !seen[d] {
					seen[d] = true
					names = append(names, d)
				}
			}
		}
		if len(names) == 0 {
			break
		}
		var err error
		if level, err = s.show(ctx, names...); err != nil {
			return nil, err
		}
		all = append(all, level...)
	}
	return all, nil
}

// isLibrary tells by the name; zlib's package has the only one that breaks the rule.
func isLibrary(name string) bool { return strings.HasPrefix(name, "lib") || name == "zlib1g" }

// dependencies returns the names in a package's Pre-Depends and Depends; of alternatives the first.
func dependencies(st stanza) []string {
	var names []string
	for d := range strings.SplitSeq(st["Pre-Depends"]+","+st["Depends"], ",") {
		d, _, _ = strings.Cut(d, "|")
		d, _, _ = strings.Cut(strings.TrimSpace(d), " ")
		d, _, _ = strings.Cut(d, ":")
		if d != "" {
			names = append(names, d)
		}
	}
	return names
}

// show returns the entries of packages in the order of names.
func (s *suite) show(ctx context.Context, names ...string) ([]stanza, error) {
	out, err := s.apt(ctx, "", "apt-cache", append([]string{"show", "--no-all-versions"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("package %s in %s: %w", strings.Join(names, " "), s.name, err)
	}
	byName := map[string]stanza{}
	for _, st := range parseStanzas(out) {
		byName[st["Package"]] = st
	}
	var sts []stanza
	for _, name := range names {
		st, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("no package %s in %s", name, s.name)
		}
		sts = append(sts, st)
	}
	return sts, nil
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
