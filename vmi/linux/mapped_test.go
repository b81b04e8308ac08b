package linux_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// The files that the recording's processes have mapped are those of their maps.
// What is in the files is not in the recording, which has only what its other
// tests read.
func TestMappedFiles(t *testing.T) {
	k := openSnapshot(t, recording)
	files := 0
	for p, err := range k.Processes() {
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]linux.Map{}
		for m, err := range p.Task.Maps() {
			if errors.Is(err, linux.ErrNoMM) { // the kernel's, and a zombie
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.Inode != 0 {
				want[m.Name] = append(want[m.Name], m)
			}
		}
		got := map[string][]linux.Map{}
		for f, err := range p.Task.MappedFiles() {
			if errors.Is(err, linux.ErrNoMM) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got[f.Path] = f.Maps
			files++
			if f.Size <= 0 {
				t.Errorf("%s has %d bytes", f.Path, f.Size)
			}
			if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, vmi.ErrNotMapped) && !errors.Is(err, linux.ErrNotCached) {
				t.Errorf("reading what is not there: %v", err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("process %d (%s): %s", p.PID, p.Comm, diff)
		}
	}
	if files < 9 {
		t.Errorf("%d files", files)
	}
}
