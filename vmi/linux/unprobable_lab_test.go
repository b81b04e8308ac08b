//go:build lab

package linux_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
)

// The ranges that probes keep out of are those that the guest's kernel lists.
func TestLabUnprobable(t *testing.T) {
	g := labtest.SharedGuest(t, labtest.Ordinary())
	k, _ := openKernel(t, g)
	ranges, err := k.Unprobable()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for _, r := range ranges {
		if strings.Contains(r.Why, "blacklist") {
			listed[fmt.Sprintf("0x%016x-0x%016x", uint64(r.Start), uint64(r.End))]++
		}
	}
	out := g.MustExec(t.Context(), "mount -t debugfs debugfs /sys/kernel/debug; cut -f1 /sys/kernel/debug/kprobes/blacklist; umount /sys/kernel/debug")
	n := 0
	for _, line := range regexp.MustCompile(`0x[0-9a-f]{16}-0x[0-9a-f]{16}`).FindAllString(out, -1) {
		n++
		if listed[line]--; listed[line] < 0 {
			t.Errorf("the guest lists %s", line)
		}
	}
	left := 0
	for _, times := range listed {
		left += times
	}
	t.Logf("the guest lists %d ranges; %d in all are unprobable", n, len(ranges))
	if n < 100 || left != 0 {
		t.Errorf("the guest lists %d ranges, and not %d of those that were found", n, left)
	}
	for name, want := range map[string]bool{"entry_SYSCALL_64": true, "exc_nmi": true, "vfs_read": false} {
		va, err := k.Symbols().Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, r := range ranges {
			got = got || r.Has(va)
		}
		if got != want {
			t.Errorf("%s is unprobable: %t", name, got)
		}
	}
}
