//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/internal/lab/stub"
	"github.com/govmi/govmi/xen"
)

// xl runs the toolstack.
func xl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("xl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("xl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// files is how many descriptors this program has open.
func files(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// One program monitors many small domains at a time, each on a goroutine of its
// own: each sees its domain's instructions, all of them. Half are destroyed under
// their monitors, which ends those; nothing is left of any.
func TestLabManyDomains(t *testing.T) {
	domains := max(4, labtest.Count(32))
	kernel := filepath.Join(t.TempDir(), "stub")
	if err := os.WriteFile(kernel, stub.Kernel(), 0o644); err != nil {
		t.Fatal(err)
	}
	h := open(t)
	free, fds := xl(t, "info", "free_memory"), files(t)
	var names []string
	defer func() {
		for _, name := range names { // those left, if something failed
			exec.Command("xl", "destroy", name).Run()
		}
	}()
	for i := range domains {
		name := fmt.Sprintf("stub%d", i)
		config := fmt.Sprintf("name = %q\ntype = \"pvh\"\nkernel = %q\nmemory = %d\nshadow_memory = 4\n",
			name, kernel, stub.MemoryMiB)
		file := filepath.Join(t.TempDir(), "xl.cfg")
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		xl(t, "create", "-q", "-e", "-p", file)
		names = append(names, name)
	}
	var ready, wg sync.WaitGroup
	stop := make([]context.CancelFunc, domains)
	seen := make([]chan struct{}, domains) // closed when a stub is done
	ready.Add(domains)
	for i, name := range names {
		dies := i%2 == 1
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop[i], seen[i] = cancel, make(chan struct{})
		wg.Go(func() {
			err := serveStub(ctx, h, name, seen[i], ready.Done)
			want := context.Canceled
			if dies {
				want = xen.ErrNoDomain
			}
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		})
	}
	ready.Wait()
	for _, name := range names {
		xl(t, "unpause", name)
	}
	for i, name := range names {
		<-seen[i]
		if i%2 == 1 {
			xl(t, "destroy", name)
		} else {
			stop[i]()
		}
	}
	wg.Wait()
	for i, name := range names {
		if i%2 == 0 {
			xl(t, "destroy", name)
		}
		if _, err := h.DomainByName(name); !errors.Is(err, xen.ErrNoDomain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	names = nil
	t.Logf("%d domains, %d CPUIDs of each, half of them destroyed under their monitors", domains, stub.CPUIDs)
	if now := files(t); now != fds {
		t.Errorf("%d files open, %d before", now, fds)
	}
	// Xen takes the pages back bit by bit.
	const patience = 20 * time.Second
	now := ""
	for end := time.Now().Add(patience); time.Now().Before(end) && now != free; time.Sleep(100 * time.Millisecond) {
		now = xl(t, "info", "free_memory")
	}
	if now != free {
		t.Errorf("%s MiB free, %s before", now, free)
	}
}

// serveStub monitors a stub until ctx ends or it dies. done is closed when all
// of its instructions have been seen. Ready and done come also if it fails.
func serveStub(ctx context.Context, h *xen.Hypervisor, name string, done chan<- struct{}, ready func()) (err error) {
	ready = sync.OnceFunc(ready)
	finish := sync.OnceFunc(func() { close(done) })
	defer ready()
	defer finish()
	d, err := h.DomainByName(name)
	if err != nil {
		return err
	}
	m, err := d.OpenMonitor(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.EnableCPUID(); err != nil {
		return err
	}
	ready()
	n := 0
	var wrong error
	err = m.Serve(ctx, func(r *xen.Request) xen.Response {
		if r.Reason != xen.ReasonCPUID || r.CPUID.Leaf != 0 {
			wrong = fmt.Errorf("request %+v", *r)
		}
		if n++; n == stub.CPUIDs {
			finish()
		}
		return xen.Response{}
	})
	if n != stub.CPUIDs {
		wrong = errors.Join(wrong, fmt.Errorf("%d CPUIDs, the stub executed %d", n, stub.CPUIDs))
	}
	return errors.Join(err, wrong)
}
