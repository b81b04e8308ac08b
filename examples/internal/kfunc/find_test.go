package kfunc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// fakeText is a kernel's text: functions one after the other, 16 bytes each.
func fakeText(functions ...[2]string) *table {
	const base = 0xffffffff81000000
	t := &table{returns: map[vmi.VirtAddr]bool{}}
	text := make([]byte, 0, 16*len(functions))
	for i, f := range functions {
		t.syms = append(t.syms, linux.Symbol{Addr: base + vmi.VirtAddr(16*i), Name: f[0], Type: 'T'})
		text = append(text, f[1]+strings.Repeat("\xcc", 16-len(f[1]))...)
	}
	t.end = base + vmi.VirtAddr(len(text))
	t.avoid = []linux.CodeRange{{Start: base, End: base + 16, Why: "entry code"}}
	t.read = func(va vmi.VirtAddr, p []byte) (int, error) { return copy(p, text[va-base:]), nil }
	return t
}

func TestFind(t *testing.T) {
	text := fakeText(
		[2]string{"entry_a", "\xc3"},
		[2]string{"vfs_read", "\x85\xff\x0f\x84\x28\x00\x00\x00\xc3"}, // its cold part is 3 further
		[2]string{"vfs_write", "\xff\x24\xc5\x00\x20\x00\x00"},        // a jump table
		[2]string{"vfs_open", "\xe9\xdb\xff\xff\xff"},                 // jumps to vfs_read
		[2]string{"vfs_read.cold", "\x0f\x0b\xc3"},
	)
	// The jump of 8 bytes at 0x10 + 2 leads to 0x10 + 8 + 0x28.
	for _, tt := range []struct {
		names   []string
		limit   int
		found   []string
		refused []string
		err     error
	}{
		{[]string{"vfs_*"}, 9, []string{"vfs_read 2 exits", "vfs_open 1 exits"}, []string{"vfs_write"}, nil},
		{[]string{"vfs_read", "vfs_read"}, 9, []string{"vfs_read 2 exits"}, nil, nil},
		{[]string{"*"}, 9, []string{"vfs_read 2 exits", "vfs_open 1 exits"}, []string{"entry_a", "vfs_write"}, nil},
		{[]string{"vfs_*"}, 1, nil, nil, ErrTooMany},
		{[]string{"entry_a"}, 9, nil, nil, ErrUnprobable},
		{[]string{"vfs_write"}, 9, nil, nil, breakpoint.ErrExits},
		{[]string{"vfs_read", "frobnicate"}, 9, nil, nil, ErrNoFunction},
		{[]string{"frob*"}, 9, nil, nil, ErrNoFunction},
	} {
		found, refused, err := text.find(tt.names, tt.limit)
		if !errors.Is(err, tt.err) {
			t.Errorf("%q: %v, want %v", tt.names, err, tt.err)
		}
		var f, r []string
		for _, g := range found {
			f = append(f, fmt.Sprintf("%s %d exits", g.Name, len(g.Exits)))
		}
		for _, g := range refused {
			r = append(r, g.Name)
		}
		if diff := cmp.Diff([][]string{tt.found, tt.refused}, [][]string{f, r}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.names, diff)
		}
	}
	if _, _, err := text.find([]string{"["}, 9); err == nil {
		t.Error("a pattern that is none")
	}
}
