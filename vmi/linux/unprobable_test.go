package linux_test

import (
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

func TestUnprobable(t *testing.T) {
	r := newRootkit(t)
	head := r.symbol("kprobe_blacklist")
	// Entries in memory that the recording has.
	list := r.field("kprobe_blacklist_entry.list")
	var entries [3]vmi.VirtAddr
	for i := range entries {
		entries[i] = r.symbol("idt_table") + vmi.VirtAddr(64*i)
		r.write(entries[i]+r.field("kprobe_blacklist_entry.start_addr"), r.symbol("vfs_read")+vmi.VirtAddr(i))
		r.write(entries[i]+r.field("kprobe_blacklist_entry.end_addr"), r.symbol("vfs_read")+vmi.VirtAddr(i)+10)
	}
	link := func(at, next vmi.VirtAddr) { r.write(at, next) }
	link(head, entries[0]+list)
	link(entries[0]+list, entries[1]+list)
	link(entries[1]+list, entries[2]+list)
	link(entries[2]+list, head)
	ranges, err := r.k.Unprobable()
	if err != nil {
		t.Fatal(err)
	}
	var listed []linux.CodeRange
	why := map[string]bool{}
	for i, c := range ranges {
		if strings.Contains(c.Why, "blacklist") {
			listed = append(listed, linux.CodeRange{Start: c.Start, End: c.End})
		}
		why[c.Why] = true
		if c.Start >= c.End || i > 0 && ranges[i-1].Start > c.Start {
			t.Errorf("%+v", c)
		}
	}
	vfsRead := r.symbol("vfs_read")
	want := []linux.CodeRange{{Start: vfsRead, End: vfsRead + 10}, {Start: vfsRead + 1, End: vfsRead + 11}, {Start: vfsRead + 2, End: vfsRead + 12}}
	if diff := gocmp.Diff(want, listed); diff != "" {
		t.Error(diff)
	}
	for _, w := range []string{"entry code", "code that must not be instrumented (noinstr)", "initialization code, whose memory is used again"} {
		if !why[w] {
			t.Errorf("no %s", w)
		}
	}

	// A guest that makes a circle of the list, or leads it out of the kernel.
	for _, next := range []vmi.VirtAddr{entries[0] + list, 0x1000, entries[0] + list + 1} {
		link(entries[2]+list, next)
		if _, err := r.k.Unprobable(); !errors.Is(err, linux.ErrCorrupt) {
			t.Errorf("next %v: %v", next, err)
		}
	}
}
