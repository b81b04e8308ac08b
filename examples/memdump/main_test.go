package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
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

// TestAnyGuest has memory in which there is no Linux: the whole is written, and a
// process is not found.
func TestAnyGuest(t *testing.T) {
	dir := t.TempDir()
	raw, out := filepath.Join(dir, "raw"), filepath.Join(dir, "out")
	want := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	if err := os.WriteFile(raw, want, 0o644); err != nil {
		t.Fatal(err)
	}
	var msg bytes.Buffer
	if status := tool().Status(t.Context(), []string{"-image", raw, "-o", out}, &msg, &msg); status != 0 {
		t.Fatalf("status %d: %s", status, msg.String())
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	msg.Reset()
	if status := tool().Status(t.Context(), []string{"-image", raw, "-o", out, "-pid", "1", "-end", "4096"}, &msg, &msg); status != 1 || !strings.Contains(msg.String(), "raw memory image") {
		t.Errorf("of a process: status %d: %s", status, msg.String())
	}
}
