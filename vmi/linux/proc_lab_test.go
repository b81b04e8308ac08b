//go:build lab

package linux_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// outVar names the folder for what a job brings back, with lab run -out.
const outVar = "GOVMI_LAB_OUT"

var procArchive = regexp.MustCompile(`(?s)@proc begin\n(.*)@proc end pid=(\d+)`)

// freeze has the guest print its /proc and pauses it until the test's end. It
// returns the archive and the process that printed it.
func freeze(t *testing.T, g *labtest.Guest, d *xen.Domain) (archive []byte, self int) {
	t.Helper()
	ctx := t.Context()
	g.MustExec(ctx, "cd /lib/modules/$(uname -r); for m in 'dummy numdummies=0' tap macvlan macvtap; do"+
		" set -- $m; insmod $1.ko $2; done; ifconfig lo 127.0.0.1 up; rm -f /tmp/proc-go")
	c := g.Start(ctx, "exec workload proc -hold -wait /tmp/proc-go")
	m := c.WaitLine(ctx, procArchive)
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background() // the test's has ended
		if err := d.Unpause(); err != nil {
			t.Error(err)
		}
		if _, status, err := g.Guest.Exec(ctx, "touch /tmp/proc-go"); err != nil || status != 0 {
			t.Errorf("end of the workload: status %d, %v", status, err)
		}
		if _, status, err := c.Command.Wait(ctx); err != nil || status != 0 {
			t.Errorf("workload: status %d, %v", status, err)
		}
		if out, status, err := g.Guest.Exec(ctx, "rmmod macvtap macvlan tap dummy"); err != nil || status != 0 {
			t.Errorf("rmmod: status %d, %v: %s", status, err, out)
		}
	})
	archive, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(m[1], "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if self, err = strconv.Atoi(m[2]); err != nil {
		t.Fatal(err)
	}
	return archive, self
}

// TestLabProc compares what is read of a live guest with the guest's own /proc,
// item by item; then the same read from a recording of what that read. The
// recording and the archive of /proc are left for those who ask for the job's
// results.
func TestLabProc(t *testing.T) {
	eachKernel(t, func(t *testing.T, g *labtest.Guest) {
		d, _ := openDomain(t, g.DomID())
		archive, self := freeze(t, g, d)
		p := readProc(t, bytes.NewReader(archive), self)
		for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
			if n := len(distinct(p.match(t, "[0-9]*/ns/"+kind))); n < 2 {
				t.Errorf("%d namespaces of kind %s", n, kind)
			}
		}
		regs := registers(t, d)
		rec := vmi.NewRecorder(vmi.MapperFunc(d.MapFrames))
		mem := vmi.NewMemory(rec, &vmi.MemoryOptions{Batch: 1})
		defer mem.Close()
		k, err := linux.Open(mem, regs)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("live", func(t *testing.T) { testProc(t, k, p) })

		dir := os.Getenv(outVar)
		if dir == "" {
			dir = t.TempDir()
		}
		release, _, _ := strings.Cut(k.Release(), "-")
		version := strings.Join(strings.Split(release, ".")[:2], ".")
		name := filepath.Join(dir, "linux-"+version)
		var b bytes.Buffer
		if err := rec.Save(&b, vmi.RecordingInfo{
			Comment: fmt.Sprintf("Linux %s; process %d printed the archive of /proc beside it", k.Release(), self), Registers: regs,
		}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(name+".rec", b.Bytes(), 0o644), os.WriteFile(name+".proc.tgz", archive, 0o644)); err != nil {
			t.Fatal(err)
		}
		t.Logf("recording of %d frames in %d bytes", rec.Len(), b.Len())
		t.Run("recording", func(t *testing.T) { testProc(t, openSnapshot(t, name+".rec"), p) })
	})
}

func distinct(m map[string]string) map[string]bool {
	all := map[string]bool{}
	for _, v := range m {
		all[v] = true
	}
	return all
}

// TestLabCoreDump compares the same with what is read from a core dump. Under the
// emulator a dump takes minutes, so that soak runs it.
func TestLabCoreDump(t *testing.T) {
	eachKernel(t, func(t *testing.T, g *labtest.Guest) {
		d, _ := openDomain(t, g.DomID())
		archive, self := freeze(t, g, d)
		dump := filepath.Join(t.TempDir(), "core")
		if out, err := exec.Command("xl", "dump-core", g.Name(), dump).CombinedOutput(); err != nil {
			t.Fatalf("xl dump-core: %v: %s", err, out)
		}
		testProc(t, openSnapshot(t, dump), readProc(t, bytes.NewReader(archive), self))
	})
}
