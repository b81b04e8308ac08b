package linux

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
)

func calls(t *SyscallTable) (got []Syscall) {
	for nr := range t.Len() {
		if c, ok := t.Number(nr); ok {
			got = append(got, *c)
		}
	}
	return got
}

func TestSyscalls(t *testing.T) {
	for _, tt := range []struct {
		name     string
		metadata bool
		without  []string
		source   SyscallSource
	}{
		{"metadata", true, nil, FromMetadata},
		{"metadata not set up", false, nil, FromTable},
		{"no metadata", true, []string{"syscalls_metadata"}, FromTable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTestGuest(t, guestOptions{without: tt.without})
			if tt.metadata {
				g.addMetadata()
			}
			k := g.open(t)
			table, err := k.Syscalls()
			if err != nil {
				t.Fatal(err)
			}
			want := []Syscall{
				{Number: 0, Name: "read", Entry: g.syscallRead, EntrySymbol: "__x64_sys_read"},
				{Number: 4, Name: "stat", Entry: g.syscallOpen, EntrySymbol: "__x64_sys_newstat"},
			}
			if tt.source == FromMetadata {
				want[0].HasArgs, want[1].HasArgs = true, true
				want[0].Args = []SyscallArg{{"fd", "unsigned int"}, {"buf", "char *"}, {"count", "size_t"}}
				want[1].Args = []SyscallArg{{"filename", "const char *"}, {"statbuf", "struct stat *"}}
			}
			if d := cmp.Diff(want, calls(table)); d != "" {
				t.Error(d)
			}
			if table.Source != tt.source {
				t.Errorf("Source = %q", table.Source)
			}
			if table.Len() != 5 {
				t.Errorf("Len = %d, want 5", table.Len())
			}
			for _, nr := range []int{-1, 1, 5, 1 << 20} {
				if c, ok := table.Number(nr); ok {
					t.Errorf("Number(%d) = %v", nr, c)
				}
			}
			if c, ok := table.Name("stat"); !ok || c.Number != 4 {
				t.Errorf("Name = %v, %v", c, ok)
			}
			if c, ok := table.ByEntry(g.syscallRead); !ok || c.Number != 0 {
				t.Errorf("ByEntry = %v, %v", c, ok)
			}
			if c, ok := table.ByEntry(g.sni); ok {
				t.Errorf("ByEntry of what is not implemented = %v", c)
			}
			if c, ok := table.Name("newstat"); ok {
				t.Errorf("the kernel's name is known: %v", c)
			}
			if again, err := k.Syscalls(); again != table || err != nil {
				t.Errorf("second Syscalls = %p, %v, want %p", again, err, table)
			}
		})
	}
}

func TestSyscallsThatAreCorrupt(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(g *testGuest, array, read vmi.VirtAddr)
		want error
	}{
		{"another number", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read+8, 3) }, ErrCorrupt},
		{"too many parameters", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read+12, 7) }, ErrCorrupt},
		{"negative parameters", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read+12, -1) }, ErrCorrupt},
		{"more parameters than there are", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read+12, 4) }, vmi.ErrNotPresent},
		{"name at zero", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read, uint64(0)) }, vmi.ErrNotPresent},
		{"empty name", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read, g.text("")) }, ErrCorrupt},
		{"escape in the name", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read, g.text("sys_\x1b[2J")) }, ErrCorrupt},
		{"endless name", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read, g.text(strings.Repeat("x", maxSyscallText))) }, ErrCorrupt},
		{"types at zero", func(g *testGuest, _, read vmi.VirtAddr) { g.put(read+16, uint64(0)) }, vmi.ErrNotPresent},
		{"array not mapped", func(g *testGuest, _, _ vmi.VirtAddr) { g.put(kernelData+dMetadata, uint64(0xffffc90000000000)) }, vmi.ErrNotPresent},
		{"entry astray", func(g *testGuest, array, _ vmi.VirtAddr) { g.put(array, uint64(0x8000000000000000)) }, vmi.ErrNotPresent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTestGuest(t, guestOptions{})
			array, read := g.addMetadata()
			k := g.open(t)
			tt.edit(g, array, read)
			if table, err := k.Syscalls(); !errors.Is(err, tt.want) {
				t.Errorf("Syscalls = %v, %v, want %v", table, err, tt.want)
			}
		})
	}
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	g.Write(data(dCallTable), make([]byte, dCallEnd-dCallTable))
	if _, err := k.Syscalls(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("empty table: %v", err)
	}
}

// FuzzSyscalls overwrites the metadata and the table.
func FuzzSyscalls(f *testing.F) {
	g := newTestGuest(f, guestOptions{})
	_, read := g.addMetadata()
	k := g.open(f)
	const size = 0x200
	start := vmi.PhysAddr(read-directMap) - 0x100
	good := make([]byte, size)
	table := make([]byte, 64)
	if _, err := g.mem.ReadAt(good, start); err != nil {
		f.Fatal(err)
	}
	if _, err := g.mem.ReadAt(table, data(dCallTable)); err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0x100), []byte{1}, []byte{})
	f.Add(uint16(0x10c), []byte{0xff, 0xff}, []byte{0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, at uint16, patch, tablePatch []byte) {
		p, q := append([]byte(nil), good...), append([]byte(nil), table...)
		for i, b := range patch {
			p[(int(at)+i)%size] ^= b
		}
		for i, b := range tablePatch[:min(len(tablePatch), len(q))] {
			q[i] ^= b
		}
		g.Write(start, p)
		g.Write(data(dCallTable), q)
		k.syscalls = nil
		st, err := k.Syscalls()
		if err != nil {
			return
		}
		for nr := range st.Len() {
			c, ok := st.Number(nr)
			if !ok {
				continue
			}
			if len(c.Args) > maxSyscallArgs || c.Number != nr {
				t.Fatalf("%+v", c)
			}
			if _, ok := st.Name(c.Name); !ok {
				t.Fatalf("%+v has no name", c)
			}
		}
	})
}
