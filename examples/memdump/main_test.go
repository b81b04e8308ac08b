package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
	"github.com/govmi/govmi/xen"
)

func TestRecording(t *testing.T) {
	out := filepath.Join(t.TempDir(), "raw")
	viewtest.Lines(t, viewtest.Run(t, tool(), "-o", out), `\d+ of \d+ bytes written`)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(b)%xen.PageSize != 0 || !bytes.Contains(b, []byte("Linux version 6.1.")) {
		t.Errorf("%d bytes", len(b))
	}
}
