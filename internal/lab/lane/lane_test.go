package lane

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, l := range []Lane{VMX, SVM} {
		if got, err := Parse(string(l)); got != l || err != nil {
			t.Errorf("Parse(%s) = %q, %v", l, got, err)
		}
	}
	for _, s := range []string{"", "VMX", "kvm"} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %q, want an error", s, got)
		}
	}
}

func TestCheckArgs(t *testing.T) {
	if err := checkArgs([]string{"dom0_mem=768M,max:768M", "com1=115200,8n1", "a.b-c_d/e+f@g%h=1"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "a b", "a\nb", "$x", "a;b", `"a"`, "{a", "ä"} {
		if err := checkArgs([]string{"good", bad}); !errors.Is(err, ErrArgument) {
			t.Errorf("%q: %v, want %v", bad, err, ErrArgument)
		}
	}
}

// A caller's argument comes after the lane's own, because the last one wins.
func TestArgumentsOrder(t *testing.T) {
	for _, l := range []Lane{VMX, SVM} {
		s := (&Spec{Lane: l, XenArgs: []string{"dom0_mem=512M"}, KernelArgs: []string{"quiet"}}).withDefaults()
		xen, kernel := s.xenArgs(), s.kernelArgs()
		if xen[len(xen)-1] != "dom0_mem=512M" || kernel[len(kernel)-1] != "quiet" {
			t.Errorf("%s: %q, %q", l, xen, kernel)
		}
		if err := checkArgs(append(xen, kernel...)); err != nil {
			t.Error(err)
		}
	}
}

func TestBochsConfig(t *testing.T) {
	s := (&Spec{Lane: VMX, Dir: "/d", Disks: [3]string{"/j", "", "/k"}}).withDefaults()
	lines := strings.Split(bochsConfig(&s, "/bios", "/vga", "/rom", []ramImage{{"/xen", 0x200000}, {"/info", infoAddr}}, "127.0.0.1:77"), "\n")
	for _, want := range []string{
		`ata0-master: type=disk, path="/j", mode=flat`,
		`ata1-master: type=disk, path="/k", mode=flat`,
		`optramimage1: file="/xen", address=0x200000`,
		`optramimage2: file="/info", address=0x7000000`,
		`com1: enabled=1, mode=file, dev="/d/console.log"`,
		`com2: enabled=1, mode=socket-client, dev="127.0.0.1:77"`,
	} {
		found := false
		for _, line := range lines {
			found = found || line == want
		}
		if !found {
			t.Errorf("no line %s", want)
		}
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "ata0-slave") {
			t.Errorf("%s, though there is no such disk", line)
		}
	}
}

func TestGunzip(t *testing.T) {
	dir := t.TempDir()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": []byte("content"), "zipped": z.Bytes()} {
		src, dst := filepath.Join(dir, name), filepath.Join(dir, name+".out")
		if err := os.WriteFile(src, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := gunzip(dst, src); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff("content", string(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	src := filepath.Join(dir, "damaged")
	if err := os.WriteFile(src, z.Bytes()[:z.Len()-6], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := gunzip(filepath.Join(dir, "x"), src); err == nil {
		t.Error("a damaged file was expanded")
	}
}

func TestStartCPUs(t *testing.T) {
	m, err := Start(t.Context(), t.TempDir(), &Spec{Lane: SVM, CPUs: -1}, nil)
	if m != nil || err == nil || !strings.Contains(err.Error(), "-1 CPUs") {
		t.Errorf("%v, %v", m, err)
	}
}
