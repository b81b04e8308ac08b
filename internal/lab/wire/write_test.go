package wire

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteDisk(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1001)
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteDisk(f, RoleKit, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b)%DiskSectorSize != 0 {
		t.Errorf("disk of %d bytes", len(b))
	}
	var h DiskHeader
	if err := h.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	want := DiskHeader{Role: RoleKit, Length: int64(len(content)), SHA256: sha256.Sum256(content)}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if !bytes.Equal(b[DiskDataOffset:DiskDataOffset+len(content)], content) {
		t.Error("the content is wrong")
	}
}

func FuzzDiskHeader(f *testing.F) {
	good, err := DiskHeader{Role: RoleJob, Length: 7}.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		var h DiskHeader
		if h.UnmarshalBinary(b) != nil {
			return
		}
		again, err := h.MarshalBinary()
		if err != nil || h.Length < 0 {
			t.Fatalf("accepted %+v: %v", h, err)
		}
		var h2 DiskHeader
		if err := h2.UnmarshalBinary(again); err != nil || h2 != h {
			t.Fatalf("%+v became %+v: %v", h, h2, err)
		}
	})
}
