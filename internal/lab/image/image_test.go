//go:build linux && amd64

package image

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	a := writeTree(t, map[string]string{
		"usr/bin/prog":  "prog",
		"lib64/ld.so":   "-> /lib/x86_64-linux-gnu/ld-1.so",
		"usr/lib/liba":  "-> liba.1",
		"usr/lib/loop":  "-> loop2",
		"usr/lib/loop2": "-> loop",
	})
	b := writeTree(t, map[string]string{
		"usr/lib/x86_64-linux-gnu/ld-1.so": "loader",
		"lib/liba.1":                       "liba",
		"usr/bin/prog":                     "shadowed",
	})
	tree := Tree{a, b}
	for name, want := range map[string]string{
		"/usr/bin/prog": "prog", "/bin/prog": "prog", "/lib64/ld.so": "loader", "/lib/liba": "liba", "usr/lib/liba.1": "liba",
	} {
		p, err := tree.Find(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got, err := os.ReadFile(p); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"/usr/bin/none", "/usr/lib/loop", "/../../../../../../etc/passwd", "/usr/bin"} {
		if p, err := tree.Find(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %q, %v, want ErrNotFound", name, p, err)
		}
	}
}

// The archive must be what another implementation of the format reads.
func TestBuilder(t *testing.T) {
	root := writeTree(t, map[string]string{"bin/tool": "tool", "usr/include/a.h": "a", "usr/include/b.h": "b", "usr/include/c": "c"})
	b := NewBuilder(Tree{root})
	b.Dir("/proc")
	b.File("/etc/deep/file", 0o600, []byte("x"))
	b.Link("/bin/sh", "tool")
	b.Char("/dev/null", 0o666, 1, 3)
	if err := b.Copy("/bin/tool", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Copy("/bin/none", 0o755); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if n, err := b.CopyAll("/usr/include/*.h", 0o644); n != 2 || err != nil {
		t.Errorf("copied %d files, %v; want 2", n, err)
	}
	if n, err := b.CopyAll("/usr/include/*.x", 0o644); n != 0 || err != nil {
		t.Errorf("copied %d files, %v; want none", n, err)
	}
	if !b.Has("/etc/deep") || b.Has("/etc/shallow") {
		t.Error("parents are wrong")
	}
	var first, second bytes.Buffer
	if err := b.Write(&first); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same content gives different images")
	}
	want := []string{"bin", "bin/sh", "bin/tool", "dev", "dev/null", "etc", "etc/deep", "etc/deep/file", "proc", "usr", "usr/include", "usr/include/a.h", "usr/include/b.h"}
	at := 0
	for _, name := range want { // each after the one before: parents first
		i := bytes.Index(first.Bytes()[at:], []byte(name+"\x00"))
		if i < 0 {
			t.Fatalf("%s is missing or too early", name)
		}
		at += i
	}
}

func TestProgramBringsItsLibraries(t *testing.T) {
	// The machine's own shell is a dynamic program with the C library.
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(Tree{"/"})
	if err := b.Program(sh); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sh, "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"} {
		if !b.Has(name) {
			t.Errorf("%s is missing", name)
		}
	}
	if err := b.Library("libdoes-not-exist.so.1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestModuleName(t *testing.T) {
	var got []string
	for _, name := range []string{"xen-evtchn", "/lib/modules/6/kernel/xen-gntdev.ko", "sd_mod.ko.xz"} {
		got = append(got, moduleName(name))
	}
	if diff := cmp.Diff([]string{"xen_evtchn", "xen_gntdev", "sd_mod"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
