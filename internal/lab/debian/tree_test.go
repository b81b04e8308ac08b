package debian

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testTree makes two packages: one before the merge of / and /usr, one after it.
func testTree(t *testing.T) *Tree {
	t.Helper()
	dir := t.TempDir()
	write := func(name, data string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	write("old/lib/x86_64-linux-gnu/liba.so.1.2", "a")
	link("liba.so.1.2", "old/lib/x86_64-linux-gnu/liba.so.1")
	write("new/usr/bin/tool", "tool")
	link("/lib/x86_64-linux-gnu/liba.so.1", "new/usr/lib/tool/liba.so") // into the other package
	link("../lib/tool", "new/usr/share/tool")
	link("loop", "new/usr/share/loop")
	link("/nowhere", "new/usr/share/dangling")
	return &Tree{Suite: "suite", first: map[string]int{"old": 0, "new>x": 1}, pkgs: []Package{
		{Name: "old", Version: "1", Dir: filepath.Join(dir, "old")},
		{Name: "new", Version: "2", Dir: filepath.Join(dir, "new")},
	}}
}

func TestTreePath(t *testing.T) {
	tree := testTree(t)
	for _, tc := range []struct {
		name, want string // want is relative to the folder of both packages; empty: no such file
	}{
		{"/usr/bin/tool", "new/usr/bin/tool"},
		{"bin/tool", "new/usr/bin/tool"},
		{"/usr/lib/x86_64-linux-gnu/liba.so.1", "old/lib/x86_64-linux-gnu/liba.so.1.2"},
		{"/usr/lib/tool/liba.so", "old/lib/x86_64-linux-gnu/liba.so.1.2"},
		{"/usr/share/tool/liba.so", "old/lib/x86_64-linux-gnu/liba.so.1.2"},
		{"/usr/share/../bin/tool", "new/usr/bin/tool"},
		{"/usr/lib/tool", "new/usr/lib/tool"},
		{"/usr/share/loop", ""},
		{"/usr/share/dangling", ""},
		{"/etc/passwd", ""},
	} {
		got, err := tree.Path(tc.name)
		if tc.want == "" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Path(%q) = %q, %v, want %v", tc.name, got, err, fs.ErrNotExist)
			}
			continue
		}
		want := filepath.Join(filepath.Dir(tree.pkgs[0].Dir), tc.want)
		if err != nil || got != want {
			t.Errorf("Path(%q) = %q, %v, want %q", tc.name, got, err, want)
		}
	}
}

func TestTreePackage(t *testing.T) {
	tree := testTree(t)
	if p, ok := tree.Package("new>x"); !ok || p.Name != "new" {
		t.Errorf("Package(new>x) = %v, %v", p, ok)
	}
	if _, ok := tree.Package("new"); ok {
		t.Error("Package(new) is found, though it was asked for by another spec")
	}
	got, err := tree.Glob("/lib/*/liba.so.*")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		filepath.Join(tree.pkgs[0].Dir, "lib/x86_64-linux-gnu/liba.so.1"),
		filepath.Join(tree.pkgs[0].Dir, "lib/x86_64-linux-gnu/liba.so.1.2"),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Glob (-want +got):\n%s", d)
	}
	if want := filepath.Join(tree.pkgs[0].Dir, "lib/x86_64-linux-gnu"); tree.libraryPath() != want {
		t.Errorf("library path = %q, want %q", tree.libraryPath(), want)
	}
}

func TestParseStanzas(t *testing.T) {
	got := parseStanzas([]byte("Package: a\nVersion: 1:2~3\nChecksums-Sha256:\n 00 1 x\n 11 2 y\n\n\nPackage: b\nnonsense\n continued\nSHA256: ff\n"))
	want := []stanza{
		{"Package": "a", "Version": "1:2~3", "Checksums-Sha256": "\n00 1 x\n11 2 y"},
		{"Package": "b", "SHA256": "ff"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestDependencies(t *testing.T) {
	got := dependencies(stanza{"Pre-Depends": "libc6 (>= 2.36)", "Depends": "libx1:any (= 1:2), python3:any | python, xl"})
	if d := cmp.Diff([]string{"libc6", "libx1", "python3", "xl"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
