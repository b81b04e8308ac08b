package linux

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

func TestOpen(t *testing.T) {
	var options []guestOptions
	for _, v := range kallsymsVariants {
		if v.offsets == absolutePerCPU {
			options = append(options, guestOptions{variant: v})
		}
	}
	for _, levels := range []int{4, 5} {
		for _, kpti := range []bool{false, true} {
			for _, hot := range []bool{false, true} {
				options = append(options, guestOptions{levels: levels, kpti: kpti, hot: hot})
			}
		}
	}
	for _, o := range options {
		t.Run(fmt.Sprintf("%s/levels=%d/kpti=%v/hot=%v", o.variant.name, o.levels, o.kpti, o.hot), func(t *testing.T) {
			g := newTestGuest(t, o)
			// From the registers of any vCPU alone.
			for i := range g.regs {
				k, err := Open(g.mem, g.regs[i:i+1])
				if err != nil {
					t.Fatalf("vCPU %d: %v", i, err)
				}
				if k.KPTI() != o.kpti {
					t.Errorf("KPTI = %v", k.KPTI())
				}
				if got := k.Release(); got != "6.1.0-99-test" {
					t.Errorf("Release = %q", got)
				}
				if got := k.AddressSpace().Root(); got != data(dTopTable) {
					t.Errorf("root = %v, want the kernel's own", got)
				}
				for j := range g.regs {
					if cur, err := k.CurrentTask(&g.regs[j]); err != nil || cur.Addr != g.proc1 {
						t.Errorf("CurrentTask(vCPU %d) = %v, %v, want %v", j, cur.Addr, err, g.proc1)
					}
				}
			}
		})
	}
}

// TestOpenFromDump has the registers that a core dump has.
func TestOpenFromDump(t *testing.T) {
	for _, levels := range []int{4, 5} {
		g := newTestGuest(t, guestOptions{levels: levels, kpti: true})
		var regs []xen.Registers
		for _, r := range g.regs {
			regs = append(regs, xen.Registers{CR0: cr0PG, CR3: r.CR3, CR4: r.CR4 | cr4PAE, RIP: r.RIP, GS: r.GS, ShadowGS: r.ShadowGS})
		}
		for i := range regs { // the second is in user mode
			k, err := Open(g.mem, regs[i:i+1])
			if err != nil {
				t.Fatalf("%d levels, vCPU %d: %v", levels, i, err)
			}
			if k.Release() != "6.1.0-99-test" || !k.KPTI() || k.entry != testEntry {
				t.Errorf("%d levels: release %s, KPTI %v, entry point %v", levels, k.Release(), k.KPTI(), k.entry)
			}
		}
		g.put(kernelData+dBanner, "Linux, perhaps")
		if _, err := Open(g.mem, regs); !errors.Is(err, ErrNoKallsyms) {
			t.Errorf("%d levels, without the banner: %v", levels, err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	missing := func(name string) []btf.Type {
		types := testTypes()
		for i, typ := range types {
			if typ.TypeName() == name {
				return append(types[:i:i], types[i+1:]...)
			}
		}
		panic(name)
	}
	for _, tt := range []struct {
		name string
		o    guestOptions
		edit func(g *testGuest)
		want error
		text string
	}{
		{"no registers", guestOptions{}, func(g *testGuest) { g.regs = nil }, ErrNoRegisters, "xl dump-core"},
		{"no LSTAR", guestOptions{}, func(g *testGuest) { g.regs[0].LSTAR, g.regs[1].LSTAR = 0, 0 }, ErrBooting, "try again"},
		{"LSTAR elsewhere", guestOptions{}, func(g *testGuest) { g.regs[0].LSTAR = 0xfffff80212345678 }, ErrNotLinux, "entry point is 0xfffff80212345678"},
		{"32 bit", guestOptions{}, func(g *testGuest) { g.regs[0].EFER, g.regs[1].EFER = 1, 1 }, ErrNotLinux, "long mode"},
		{"32 bit with page tables", guestOptions{}, func(g *testGuest) {
			for i := range g.regs {
				g.regs[i].EFER, g.regs[i].LSTAR, g.regs[i].GDTRBase, g.regs[i].CR0 = 0, 0, 0xc0001000, cr0PG
			}
		}, ErrNotLinux, "32-bit code"},
		{"CR3 astray", guestOptions{}, func(g *testGuest) { g.regs[0].CR3, g.regs[1].CR3 = 0x6543000, 0x6543000 }, ErrNotLinux, "entry point"},
		{"LSTAR of another kernel", guestOptions{}, func(g *testGuest) { g.regs[0].LSTAR += 8 }, ErrNoKallsyms, "offset table"},
		{"no kallsyms", guestOptions{without: []string{"kallsyms"}}, nil, ErrNoKallsyms, "CONFIG_KALLSYMS_ALL"},
		{"kallsyms of functions only", guestOptions{without: []string{"init_task"}}, nil, ErrNoSymbol, "init_task"},
		{"no page table symbol", guestOptions{without: []string{"init_top_pgt"}}, nil, ErrNoSymbol, "init_top_pgt"},
		{"no BTF", guestOptions{without: []string{"__start_BTF"}}, nil, ErrNoBTF, "6.1.0-99-test"},
		{"no end of BTF", guestOptions{without: []string{"__stop_BTF"}}, nil, ErrNoBTF, "CONFIG_DEBUG_INFO_BTF"},
		{"BTF without tasks", guestOptions{types: missing("task_struct")}, nil, ErrNoField, "task_struct"},
		{"no per-CPU symbol", guestOptions{without: []string{"current_task"}}, nil, ErrNoSymbol, "current_task"},
		{"too many CPUs", guestOptions{}, func(g *testGuest) { g.put(kernelData+dCPUCount, -1) }, ErrCorrupt, "CPUs"},
		{"no CPU", guestOptions{}, func(g *testGuest) { g.put(kernelData+dCPUCount, 0) }, ErrCorrupt, "CPUs"},
		{"no banner", guestOptions{banner: "Plan 9"}, nil, ErrCorrupt, "Plan 9"},
		{"BTF destroyed", guestOptions{}, func(g *testGuest) { g.Write(roPhys+0x100000, make([]byte, 64)) }, nil, "BTF"},
		{"kernel's tables destroyed", guestOptions{}, func(g *testGuest) { g.Write(data(dTopTable), make([]byte, xen.PageSize)) }, vmi.ErrNotPresent, "page tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTestGuest(t, tt.o)
			if tt.edit != nil {
				tt.edit(g)
			}
			_, err := Open(g.mem, g.regs)
			if err == nil {
				t.Fatal("no error")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error = %q, want one line with %q", err, tt.text)
			}
		})
	}
}

// TestOpenBeforeFinalPermissions has a kernel whose pages are all executable,
// as while it boots.
func TestOpenBeforeFinalPermissions(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	for _, root := range []vmi.PhysAddr{g.root, data(dTopTable)} {
		for off := vmi.PhysAddr(0); off < 0x200000; off += xen.PageSize {
			g.Map(root, 4, kernelROData+vmi.VirtAddr(off), roPhys+off, 1, 0)
		}
	}
	g.open(t)
}

func TestFindDigitsAcrossChunksAndHoles(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	s := g.mem.AddressSpace(vmi.CR3(g.root))
	const base = directMap + 0x20000000
	places := []vmi.VirtAddr{0, scanChunk - 5, scanChunk + 5000, 2*scanChunk + 77}
	g.Write(0x20000000, make([]byte, 2*scanChunk))
	g.Write(0x20000000+2*scanChunk+8192, make([]byte, 8192)) // a hole before
	places[3] += 8192
	for _, p := range places {
		g.Write(0x20000000+vmi.PhysAddr(p), digitTokens)
	}
	var got []vmi.VirtAddr
	for at := range findDigits(s, region{base, base + 2*scanChunk + 16384}) {
		got = append(got, at-base)
	}
	if fmt.Sprint(got) != fmt.Sprint(places) {
		t.Errorf("found %v, want %v", got, places)
	}
}
