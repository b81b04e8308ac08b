//go:build lab

package kfunc

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// openKernel opens a guest's for the test's time.
func openKernel(t *testing.T, g *labtest.Guest) *linux.Kernel {
	t.Helper()
	hyp, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hyp.Close() })
	dom, err := hyp.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	regs, err := dom.AllRegisters()
	if err != nil {
		t.Fatal(err)
	}
	mem := vmi.NewMemory(vmi.MapperFunc(dom.MapFrames), nil)
	t.Cleanup(func() { mem.Close() })
	k, err := linux.Open(mem, regs)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Of nearly all functions of a kernel as distributions build it the ends are
// found, and those that must not be touched are refused, each with the reason.
func TestLabFind(t *testing.T) {
	k := openKernel(t, labtest.SharedGuest(t, labtest.Ordinary()))
	names := []string{"vfs_*", "ksys_*", "n_tty_*"}
	if labtest.Soak() {
		names = []string{"*"}
	}
	found, refused, err := Find(k, names, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	exits, tails, uncertain := 0, 0, 0
	for _, f := range found {
		exits += len(f.Exits)
		for _, e := range f.Exits {
			if e.Tail {
				tails++
			}
		}
	}
	why := map[string]int{}
	for _, r := range refused {
		if errors.Is(r.Why, breakpoint.ErrExits) {
			if uncertain++; uncertain <= 20 {
				t.Logf("%s: %v", r.Name, r.Why)
			}
		} else {
			why[r.Why.Error()]++
		}
	}
	t.Logf("%d functions with %d exits, %d of them jumps to others; %d whose exits are uncertain; refused for %v", len(found), exits, tails, uncertain, why)
	if uncertain*20 > len(found) || !slices.ContainsFunc(found, func(f Function) bool { return f.Name == "vfs_read" }) {
		t.Error("too many are uncertain")
	}

	for name, want := range map[string]struct {
		err  error
		text string
	}{
		"entry_SYSCALL_64":   {ErrUnprobable, "entry code"},
		"exc_nmi":            {ErrUnprobable, ""},
		"nmi_handle":         {ErrUnprobable, ""}, // by the kernel's blacklist of kprobes
		"__x86_return_thunk": {ErrUnprobable, ""},
		"no_such_function":   {ErrNoFunction, ""},
	} {
		if _, _, err := Find(k, []string{name}, 9); !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
