package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A record and unpacked packages are all that Fetch needs: here it has no apt at hand.
func TestFetchFromCache(t *testing.T) {
	dir := t.TempDir()
	s := newSuite(dir, "suite")
	r := release{Name: "pkg", Version: "1:2", SHA256: "00"}
	if err := os.MkdirAll(filepath.Join(s.pkg(r).Dir, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.pkg(r).Dir, ":") {
		t.Errorf("%s holds a colon, which LD_LIBRARY_PATH cannot", s.pkg(r).Dir)
	}
	lib := release{Name: "lib", Version: "1", SHA256: "01"}
	if err := os.MkdirAll(s.pkg(lib).Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.writeRecord(map[string][]release{"meta>p+": {r, lib}, "lib": {lib}}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	tree, err := Fetch(t.Context(), dir, "suite", "lib", "meta>p+")
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := tree.Package("meta>p+"); !ok || p.Version != "1:2" {
		t.Errorf("Package = %+v, %v", p, ok)
	}
	if got := len(tree.Packages()); got != 2 {
		t.Errorf("%d packages, want 2: the library counts once", got)
	}
	if _, err := Fetch(t.Context(), dir, "suite", "meta>p+", "other"); err == nil {
		t.Error("a package that is not in the cache was fetched without apt")
	}
}

func TestCheckFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if err := checkFile(path, abc); err != nil {
		t.Error(err)
	}
	if err := checkFile(path, abc[:63]+"e"); err == nil {
		t.Error("a wrong sum was accepted")
	}
}
