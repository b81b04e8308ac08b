package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

// TestRecording records a recording: the pages that are read are the same.
func TestRecording(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "copy")
	out := viewtest.Run(t, tool(), "-record", copied)
	viewtest.Lines(t, out, `\d\d processes`, `4 modules`, `0 findings`)
	a, err := os.Stat(viewtest.Recording)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(copied)
	if err != nil {
		t.Fatal(err)
	}
	if a.Size() > 5<<20 || b.Size() > a.Size()+a.Size()/10 || b.Size() < a.Size()/2 {
		t.Errorf("the recording has %d bytes, its copy %d", a.Size(), b.Size())
	}
}
