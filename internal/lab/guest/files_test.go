package guest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// members lists an archive in the "newc" format: name, mode, content.
func members(t *testing.T, b []byte) (list []string) {
	t.Helper()
	const header = 110
	align := func(n int) int { return (n + 3) &^ 3 }
	for len(b) >= header {
		var ino, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, length, sum int
		_, err := fmt.Sscanf(string(b[:header]), "070701%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x",
			&ino, &mode, &uid, &gid, &links, &mtime, &size, &major, &minor, &rmajor, &rminor, &length, &sum)
		if err != nil {
			t.Fatalf("%v in %q", err, b[:header])
		}
		name := string(b[header : header+length-1])
		if name == "TRAILER!!!" {
			return list
		}
		data := align(header + length)
		list = append(list, fmt.Sprintf("%s %o %s", name, mode, b[data:data+size]))
		b = b[align(data+size):]
	}
	t.Fatal("no trailer")
	return nil
}

func TestWithFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const image = "an image " // of whole words
	ramdisk := write("ramdisk", image+"...")
	got, err := withFiles(dir, ramdisk, map[string]string{"/lib/x/b": write("b", "bb"), "/lib/a": write("a", "a"), "/top": write("top", "")})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(b, []byte(image+"..."))
	if !ok {
		t.Fatalf("begins with %q", b[:20])
	}
	want := []string{"lib 40755 ", "lib/a 100755 a", "lib/x 40755 ", "lib/x/b 100755 bb", "top 100755 "}
	if d := cmp.Diff(want, members(t, rest)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := withFiles(dir, ramdisk, map[string]string{"/x": filepath.Join(dir, "none")}); err == nil {
		t.Error("a file that is not there")
	}
}
