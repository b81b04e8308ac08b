package linux_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// The recording of a guest and what the guest said of itself at that moment; the
// NOTICE beside them tells where they come from.
const (
	recording     = "../../testdata/guests/linux-6.1.rec"
	recordingProc = "../../testdata/guests/linux-6.1.proc.tgz"
)

// openSnapshot opens a file for the test's time.
func openSnapshot(t testing.TB, name string) *linux.Kernel {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s, err := vmi.OpenSnapshot(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	mem := vmi.NewMemory(s, nil)
	t.Cleanup(func() { mem.Close() })
	k, err := linux.Open(mem, s.Registers())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRecording(t *testing.T) {
	f, err := os.Open(recordingProc)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	k := openSnapshot(t, recording)
	testProc(t, k, readProc(t, f, recordedSelf(t)))
}

// recordedSelf is the process that printed /proc, of the recording's comment.
func recordedSelf(t testing.TB) (pid int) {
	t.Helper()
	f, err := os.Open(recording)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := vmi.OpenRecording(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var release string
	if n, err := fmt.Sscanf(r.Info().Comment, "Linux %s process %d", &release, &pid); n != 2 {
		t.Fatalf("comment %q: %v", r.Info().Comment, err)
	}
	return pid
}
