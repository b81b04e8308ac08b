//go:build lab

package linux_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi/linux"
)

// TestLabProcBoot compares boot parameters, clocks and the types of a module with
// what the guest says of them.
func TestLabProcBoot(t *testing.T) { eachKernel(t, testBoot) }

func testBoot(t *testing.T, g *labtest.Guest) {
	ctx := t.Context()
	k, _ := openKernel(t, g)
	line, err := k.CommandLine()
	if want := strings.TrimSuffix(g.MustExec(ctx, "cat /proc/cmdline"), "\n"); err != nil || line != want {
		t.Errorf("boot parameters %q, %v, the guest says %q", line, err, want)
	}

	clocks := func() (up time.Duration, wall time.Time) {
		t.Helper()
		f := strings.Fields(g.MustExec(ctx, "cat /proc/uptime; date +%s"))
		if len(f) != 3 {
			t.Fatalf("uptime and date %q", f)
		}
		seconds, err1 := strconv.ParseFloat(f[0], 64)
		unix, err2 := strconv.ParseInt(f[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return time.Duration(seconds * float64(time.Second)), time.Unix(unix, 0)
	}
	before, wallBefore := clocks()
	c, err := k.Clock()
	after, wallAfter := clocks()
	const tick = 10 * time.Millisecond // no kernel ticks more slowly
	if err != nil || c.Uptime < before-2*tick || c.Uptime > after+tick {
		t.Errorf("uptime %v, %v, the guest says %v before and %v after", c.Uptime, err, before, after)
	}
	if c.Wall.Before(wallBefore.Add(-2*tick)) || c.Wall.After(wallAfter.Add(time.Second)) {
		t.Errorf("time %v, the guest says %v before and %v after", c.Wall, wallBefore, wallAfter)
	}
	t.Logf("up %v, between %v and %v", c.Uptime, before, after)

	const module = "dummy"
	g.MustExec(ctx, "insmod /lib/modules/$(uname -r)/"+module+".ko numdummies=0")
	defer g.MustExec(ctx, "rmmod "+module)
	file, status := g.Exec(ctx, "base64 /sys/kernel/btf/"+module)
	m := findModule(t, k, module)
	spec, err := k.ModuleTypes(m)
	if status != 0 {
		if !errors.Is(err, linux.ErrNoBTF) {
			t.Errorf("types of a module, of which the guest has none: %v", err)
		}
		t.Logf("the guest has no types of modules: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(strings.TrimSpace(file), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	want, err := btf.LoadSplitSpecFromReader(bytes.NewReader(raw), k.Types())
	if err != nil {
		t.Fatal(err)
	}
	types := func(s *btf.Spec) (all []string) {
		for typ, err := range s.All() {
			if err != nil {
				t.Fatal(err)
			}
			size, _ := btf.Sizeof(typ) // functions have none
			all = append(all, fmt.Sprintf("%T %s, %d bytes", typ, typ.TypeName(), size))
		}
		return all
	}
	if d := cmp.Diff(types(want), types(spec)); d != "" || len(types(spec)) == 0 {
		t.Errorf("%d types (-guest +read): %s", len(types(spec)), d)
	}
	t.Logf("%d types of module %s in %d bytes", len(types(spec)), module, len(raw))
}

func findModule(t *testing.T, k *linux.Kernel, name string) linux.Module {
	t.Helper()
	for _, m := range collect(t, k.Modules()) {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no module %s", name)
	return linux.Module{}
}
