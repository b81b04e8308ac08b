//go:build lab

package linux_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi/linux"
)

// TestLabMappedFiles reads what a process has mapped and not touched from the page
// cache, and compares it with what the guest reads.
func TestLabMappedFiles(t *testing.T) {
	eachKernel(t, func(t *testing.T, g *labtest.Guest) {
		k, _ := openKernel(t, g)
		ctx := t.Context()
		c := g.Start(ctx, "rm -f /tmp/go; exec workload mapped -n 1 -wait /tmp/go")
		pid, err := strconv.ParseInt(c.WaitLine(ctx, regexp.MustCompile(`mapped ready pid=(\d+)`))[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		task, err := k.TaskByPID(int32(pid))
		if err != nil {
			t.Fatal(err)
		}
		files, bytes := 0, int64(0)
		for f, err := range task.MappedFiles() {
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			n, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size))
			if err != nil || n != f.Size {
				t.Errorf("%s: %d of %d bytes: %v", f.Path, n, f.Size, err)
				continue
			}
			if want := g.MustExec(ctx, "sha256sum '"+f.Path+"'"); !strings.HasPrefix(want, fmt.Sprintf("%x ", h.Sum(nil))) {
				t.Errorf("%s: %d bytes with the digest %x, in the guest %s", f.Path, n, h.Sum(nil), want)
			}
			files++
			bytes += n
			if strings.HasSuffix(f.Path, "/libmapped.so") {
				testMappedLibrary(t, task, f)
			}
		}
		t.Logf("%d files, %d bytes", files, bytes)
		if files < 2 {
			t.Errorf("%d files; the program and a library are mapped", files)
		}
		g.MustExec(ctx, "touch /tmp/go")
		if out, status := c.Wait(ctx); status != 0 {
			t.Errorf("the guest says, with status %d: %s", status, out)
		}
	})
}

func testMappedLibrary(t *testing.T, task linux.Task, f *linux.MappedFile) {
	t.Helper()
	names := ""
	for fn, err := range f.Functions() {
		if err != nil {
			t.Fatal(err)
		}
		names += fn.Name
		space, err := task.AddressSpace()
		if err != nil {
			t.Fatal(err)
		}
		va, ok := f.Addr(fn.Offset)
		if pa, err := space.Translate(va); !ok || err == nil {
			t.Errorf("%s is at %v (%t), in memory at %v: the process has not touched it", fn.Name, va, ok, pa)
		}
		if gfn, err := f.Frame(fn.Offset); err != nil {
			t.Errorf("%s: frame %#x, %v", fn.Name, gfn, err)
		}
	}
	if names != "mapped_function" {
		t.Errorf("functions %q", names)
	}
}
