package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
)

// Places of what the test guest's kernel keeps of its code, in its data pages.
const (
	dJumps      = 0x5000 // two jump labels
	dJumpKeys   = 0x5100
	dCalls      = 0x5200 // three static calls
	dCallKeys   = 0x5300
	dPagesStart = 0x5400
	dOpsList    = 0x5410
	dOpsEnd     = 0x5420
	dKsyms      = 0x5440
	dModules    = 0x5460
	dProbes     = 0x5800 // 64 hash chains
)

// Places in the code.
const (
	cTraced   = 0x1000 // functions that ftrace knows
	cPlain    = 0x2000 // one that it does not
	cJump     = 0x3000
	cCall     = 0x4000
	cTail     = 0x4100
	cCallee   = 0x5000
	cFtrace   = 0x6000
	cProbed   = 0x7000
	codeSize  = 0x1f0000
	moduleLen = 0x1000
)

func codeTypes() []btf.Type {
	i32 := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	u64 := &btf.Int{Name: "long unsigned int", Size: 8}
	ptr := &btf.Pointer{Target: &btf.Void{}}
	list := &btf.Struct{Size: 16, Members: []btf.Member{{Name: "next", Type: ptr}, {Name: "prev", Type: ptr, Offset: 64}}}
	counter := &btf.Struct{Size: 4, Members: []btf.Member{{Name: "counter", Type: i32}}}
	name := &btf.Array{Index: i32, Type: &btf.Int{Name: "char", Size: 1}, Nelems: 16}
	structure := func(name string, size uint32, members ...btf.Member) btf.Type {
		return &btf.Struct{Name: name, Size: size, Members: members}
	}
	m := func(name string, typ btf.Type, off int) btf.Member {
		return btf.Member{Name: name, Type: typ, Offset: btf.Bits(8 * off)}
	}
	layout := &btf.Struct{Size: 16, Members: []btf.Member{m("base", ptr, 0), m("size", i32, 8), m("text_size", i32, 12)}}
	return append(testTypes(),
		structure("jump_entry", 16, m("code", i32, 0), m("target", i32, 4), m("key", u64, 8)),
		structure("static_key", 16, m("enabled", counter, 0)),
		structure("static_call_site", 8, m("addr", i32, 0), m("key", i32, 4)),
		structure("static_call_key", 16, m("func", ptr, 0)),
		structure("ftrace_page", 24, m("next", ptr, 0), m("records", ptr, 8), m("index", i32, 16)),
		structure("dyn_ftrace", 16, m("ip", u64, 0), m("flags", u64, 8)),
		structure("ftrace_ops", 32, m("func", ptr, 0), m("next", ptr, 8), m("trampoline", u64, 16), m("trampoline_size", u64, 24)),
		structure("bpf_ksym", 32, m("start", u64, 0), m("end", u64, 8), m("lnode", list, 16)),
		structure("module", 0x100, m("state", i32, 0), m("list", list, 8), m("name", name, 24), m("refcnt", counter, 40), m("source_list", list, 48),
			m("core_layout", layout, 64), m("kallsyms", ptr, 80), m("jump_entries", ptr, 88), m("num_jump_entries", i32, 96),
			m("static_call_sites", ptr, 104), m("num_static_call_sites", i32, 112)),
		structure("module_use", 48, m("source_list", list, 0), m("source", ptr, 32)),
		structure("mod_kallsyms", 32, m("symtab", ptr, 0), m("num_symtab", i32, 8), m("strtab", ptr, 16), m("typetab", ptr, 24)),
		structure("idr", 8, m("idr_rt", &btf.Struct{Size: 8, Members: []btf.Member{m("xa_head", ptr, 0)}}, 0)),
		structure("bpf_prog", 32, m("type", i32, 0), m("tag", u64, 8), m("aux", ptr, 16)),
		structure("bpf_prog_aux", 48, m("id", i32, 0), m("name", name, 8), m("load_time", u64, 24)),
		structure("kprobe", 64, m("hlist", list, 0), m("list", list, 16), m("addr", ptr, 32), m("pre_handler", ptr, 40), m("flags", i32, 48)),
		structure("optimized_kprobe", 80, m("kp", u64, 0), m("optinsn", &btf.Struct{Size: 8, Members: []btf.Member{m("insn", ptr, 0)}}, 64)),
	)
}

// codeGuest is a guest whose kernel has code, and knows where that may change.
type codeGuest struct{ *testGuest }

func newCodeGuest(t testing.TB) codeGuest {
	t.Helper()
	data := func(name string, off int) Symbol { return Symbol{kernelData + vmi.VirtAddr(off), name, 'D'} }
	code := func(name string, off int) Symbol { return Symbol{kernelText + vmi.VirtAddr(off), name, 't'} }
	g := codeGuest{newTestGuest(t, guestOptions{types: codeTypes(), more: []Symbol{
		data("__start___jump_table", dJumps), data("__stop___jump_table", dJumps+32),
		data("__start_static_call_sites", dCalls), data("__stop_static_call_sites", dCalls+24),
		data("ftrace_pages_start", dPagesStart), data("ftrace_ops_list", dOpsList), data("ftrace_list_end", dOpsEnd),
		data("bpf_kallsyms", dKsyms), data("modules", dModules), data("kprobe_table", dProbes), data("key_of_calls", dCallKeys),
		code("traced", cTraced), code("traced_too", cTraced+0x100), code("plain", cPlain), code("jumps", cJump), code("calls", cCall),
		code("tail", cTail), code("callee", cCallee), code("ftrace_caller", cFtrace), code("probed", cProbed),
		code("__SCT__callee", cCallee+0x800),
	}})}
	g.Write(textPhys, make([]byte, codeSize))
	nop := []byte{0x0f, 0x1f, 0x44, 0, 0}
	push := []byte{0x55, 0x48, 0x89, 0xe5, 0xc3} // push %rbp; mov %rsp,%rbp; ret
	for _, off := range []int{cTraced, cTraced + 0x100, cCallee} {
		g.code(off, slices.Concat(nop, push))
	}
	g.code(cPlain, push)
	g.code(cProbed, push)
	g.code(cJump, nop)                                     // its key is off
	g.code(cJump+0x10, jump(0xe9, cJump+0x10, cJump+0x40)) // and this one's on
	g.code(cCall, jump(0xe8, cCall, cCallee))
	g.code(cCall+0x10, nop) // of nothing
	g.code(cTail, jump(0xe9, cTail, cCallee))
	g.code(cCallee+0x800, jump(0xe9, cCallee+0x800, cCallee))

	rel := func(at, to int) int { return int(int32(to - at)) }
	text := -int(kernelData - kernelText) // code seen from the data
	for i, l := range []struct{ code, target, key int }{{cJump, cJump + 0x40, dJumpKeys}, {cJump + 0x10, cJump + 0x40, dJumpKeys + 16}} {
		at := dJumps + 16*i
		g.put(kernelData+vmi.VirtAddr(at), rel(at, text+l.code))
		g.put(kernelData+vmi.VirtAddr(at+4), rel(at+4, text+l.target))
		g.put(kernelData+vmi.VirtAddr(at+8), uint64(l.key-at-8))
	}
	g.put(kernelData+dJumpKeys+16, 1)
	for i, s := range []struct{ addr, key, flags int }{{cCall, dCallKeys, 0}, {cCall + 0x10, dCallKeys + 16, 0}, {cTail, dCallKeys, callIsTail}} {
		at := dCalls + 8*i
		g.put(kernelData+vmi.VirtAddr(at), rel(at, text+s.addr))
		g.put(kernelData+vmi.VirtAddr(at+4), rel(at+4, s.key)|s.flags)
	}
	g.put(kernelData+dCallKeys, kernelText+cCallee)
	page, records := virt(g.alloc(24)), virt(g.alloc(48))
	g.put(kernelData+dPagesStart, page)
	g.put(page+8, records)
	g.put(page+16, 3)
	for i, off := range []vmi.VirtAddr{cTraced, cTraced + 0x100, cCallee} {
		g.put(records+vmi.VirtAddr(16*i), kernelText+off)
	}
	g.put(kernelData+dOpsList, kernelData+dOpsEnd)
	for _, head := range []vmi.VirtAddr{kernelData + dKsyms, kernelData + dModules} {
		g.put(head, head)
		g.put(head+8, head)
	}
	return g
}

// code writes instructions.
func (g codeGuest) code(off int, b []byte) { g.Write(textPhys+vmi.PhysAddr(off), b) }

// jump is a jump or call from one place in the code to another.
func jump(op byte, from, to int) []byte {
	return binary.LittleEndian.AppendUint32([]byte{op}, uint32(int32(to-from-5)))
}

// made adds code of ftrace or BPF, and returns where.
func (g codeGuest) made() vmi.VirtAddr {
	sym := virt(g.alloc(32))
	at := kernelText + 0x20000000
	g.put(sym, at)
	g.put(sym+8, at+0x100)
	g.link(sym+16, kernelData+dKsyms)
	return at
}

func (g codeGuest) findings(t *testing.T) (all []string) {
	t.Helper()
	for f, err := range g.open(t).CheckCode() {
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == ChangedCode && f.Addr < kernelHalf {
			t.Errorf("found %+v", f)
		}
		all = append(all, fmt.Sprintf("%s: %s: %s", f.Kind, f.Name, f.Where))
	}
	return all
}

func TestCheckCode(t *testing.T) {
	const outside = 0x10000000 // from the kernel's code on
	to := func(b ...byte) []byte { return binary.LittleEndian.AppendUint64(b, uint64(kernelText)+outside) }
	foreign := (kernelText + outside).String()
	for _, tt := range []struct {
		name string
		edit func(g codeGuest)
		want []string // of each finding, its beginning
	}{
		{"nothing", func(codeGuest) {}, nil},
		{"jump in place of ftrace's call", func(g codeGuest) { g.code(cTraced, jump(0xe9, cTraced, outside)) },
			[]string{"changed code: traced+0x0: a jump to " + foreign}},
		{"call of something else than ftrace", func(g codeGuest) { g.code(cTraced, jump(0xe8, cTraced, cPlain)) },
			[]string{"changed code: traced+0x0: a call to"}},
		{"call of ftrace", func(g codeGuest) { g.code(cTraced, jump(0xe8, cTraced, cFtrace)) }, nil},
		{"call of code made by BPF", func(g codeGuest) {
			g.code(cTraced+0x100, jump(0xe8, cTraced+0x100, int(g.made()-kernelText)))
		}, nil},
		{"breakpoint in place of ftrace's call", func(g codeGuest) { g.code(cTraced, []byte{0xcc}) },
			[]string{"changed code: traced+0x0: a breakpoint"}},
		{"jump behind ftrace's call", func(g codeGuest) { g.code(cTraced+5, jump(0xe9, cTraced+5, outside)) },
			[]string{"changed code: traced+0x5: a jump to " + foreign}},
		{"jump at the beginning", func(g codeGuest) { g.code(cPlain, jump(0xe9, cPlain, outside)) },
			[]string{"changed code: plain+0x0: a jump to " + foreign}},
		{"jump behind endbr64", func(g codeGuest) { g.code(cPlain, slices.Concat(endbr, jump(0xe9, cPlain+4, outside))) },
			[]string{"changed code: plain+0x4: a jump to " + foreign}},
		{"jump behind a sealed endbr64", func(g codeGuest) {
			g.code(cPlain, append([]byte{0x66, 0x0f, 0x1f, 0}, jump(0xe9, cPlain+4, outside)...))
		},
			[]string{"changed code: plain+0x4: a jump to " + foreign}},
		{"jump within the kernel", func(g codeGuest) { g.code(cPlain, jump(0xe9, cPlain, cCallee)) }, nil},
		{"jump by a register", func(g codeGuest) { g.code(cPlain, append(to(0x48, 0xb8), 0xff, 0xe0)) },
			[]string{"changed code: plain+0x0: a jump to " + foreign}},
		{"jump by R11", func(g codeGuest) { g.code(cPlain, append(to(0x49, 0xbb), 0x41, 0xff, 0xe3)) },
			[]string{"changed code: plain+0x0: a jump to " + foreign}},
		{"push and return of a register", func(g codeGuest) { g.code(cPlain, append(to(0x48, 0xb8), 0x50, 0xc3)) },
			[]string{"changed code: plain+0x0: a jump to " + foreign}},
		{"push and return", func(g codeGuest) { g.code(cPlain, append(to(0x68)[:5], 0xc3)) },
			[]string{"changed code: plain+0x0: a jump to " + foreign}},
		{"jump by a pointer", func(g codeGuest) {
			g.code(cPlain, []byte{0xff, 0x25, 0x0a, 0, 0, 0})
			g.code(cPlain+0x10, to())
		}, []string{"changed code: plain+0x0: a jump to " + foreign}},
		{"jump by a pointer of data to code made by BPF", func(g codeGuest) {
			g.code(cPlain, []byte{0xff, 0x25, 0x0a, 0, 0, 0})
			g.code(cPlain+0x10, binary.LittleEndian.AppendUint64(nil, uint64(g.made())))
		}, nil},
		{"jump in place of a kprobe", func(g codeGuest) { g.code(cProbed, jump(0xe9, cProbed, outside)); g.probe(cProbed) },
			[]string{"changed code: probed+0x0: a jump to " + foreign}},
		{"breakpoint", func(g codeGuest) { g.code(cPlain, []byte{0xcc}) }, []string{"changed code: plain+0x0: a breakpoint"}},
		{"space between functions", func(g codeGuest) { g.code(cPlain, []byte{0xcc, 0xcc}) }, nil},
		{"kprobe", func(g codeGuest) { g.code(cProbed, []byte{0xcc}); g.probe(cProbed) }, nil},
		{"kprobe and a breakpoint elsewhere", func(g codeGuest) { g.code(cPlain, []byte{0xcc}); g.probe(cProbed) },
			[]string{"changed code: plain+0x0: a breakpoint"}},
		{"jump label to elsewhere", func(g codeGuest) { g.code(cJump, jump(0xe9, cJump, outside)) },
			[]string{"changed code: jumps+0x0: a jump to " + foreign}},
		{"jump label against its key", func(g codeGuest) { g.code(cJump, jump(0xe9, cJump, cJump+0x40)) },
			[]string{"changed code: jumps+0x0: a jump to"}},
		{"jump label that does not jump", func(g codeGuest) { g.code(cJump+0x10, []byte{0x66, 0x90}) },
			[]string{"changed code: jumps+0x10: bytes 66 90"}},
		{"static call of another function", func(g codeGuest) { g.code(cCall, jump(0xe8, cCall, cPlain)) },
			[]string{"changed code: calls+0x0: a call to"}},
		{"static call of nothing", func(g codeGuest) { g.code(cCall+0x10, jump(0xe8, cCall+0x10, cPlain)) },
			[]string{"changed code: calls+0x10: a call to"}},
		{"static tail call", func(g codeGuest) { g.code(cTail, jump(0xe9, cTail, cPlain)) },
			[]string{"changed code: tail+0x0: a jump to"}},
		{"key of static calls", func(g codeGuest) { g.put(kernelData+dCallKeys, kernelText+outside) },
			[]string{"changed code: calls+0x0: a static call to " + foreign, "changed code: tail+0x0: a static call to " + foreign}},
		{"trampoline of static calls", func(g codeGuest) { g.code(cCallee+0x800, jump(0xe9, cCallee+0x800, outside)) },
			[]string{"changed code: __SCT__callee+0x0: a jump to " + foreign}},
		{"tracer", func(g codeGuest) {
			ops := virt(g.alloc(32))
			g.put(ops, kernelText+outside)
			g.put(ops+8, kernelData+dOpsEnd)
			g.put(kernelData+dOpsList, ops)
		}, []string{"tracer: : "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newCodeGuest(t)
			tt.edit(g)
			got := g.findings(t)
			ok := len(got) == len(tt.want)
			for i := range tt.want {
				ok = ok && strings.HasPrefix(got[i], tt.want[i])
			}
			if !ok {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

// probe registers a kprobe.
func (g codeGuest) probe(off vmi.VirtAddr) {
	p := virt(g.alloc(80))
	g.put(p+32, kernelText+off)
	g.put(kernelData+dProbes+8*5, p)
}

// module adds a module with one function at the beginning of its text.
func (g codeGuest) module(name, function string, text []byte) (addr, base vmi.VirtAddr) {
	addr, base = virt(g.alloc(0x100)), virt(g.alloc(moduleLen))
	g.put(base, string(text))
	g.link(addr+8, kernelData+dModules)
	g.put(addr+24, name)
	g.put(addr+48, addr+48)
	g.put(addr+56, addr+48)
	g.put(addr+64, base)
	g.put(addr+72, moduleLen)
	g.put(addr+76, moduleLen/2)
	symbols, sym := virt(g.alloc(32)), virt(g.alloc(24))
	g.put(symbols, sym)
	g.put(symbols+8, 1)
	g.put(symbols+16, g.text(function))
	g.put(symbols+24, g.text("t"))
	g.put(sym+8, base)
	g.put(addr+80, symbols)
	return addr, base
}

// site gives a module a jump label and a static call at va, whose keys are off and
// of nothing.
func (g codeGuest) site(module, va vmi.VirtAddr) {
	jump, call, key := virt(g.alloc(16)), virt(g.alloc(8)), virt(g.alloc(16))
	g.put(jump, int(int32(va-jump)))
	g.put(jump+4, int(int32(va+0x20-jump-4)))
	g.put(jump+8, uint64(key-jump-8))
	g.put(call, int(int32(va-call)))
	g.put(call+4, int(int32(key-call-4)))
	g.put(module+88, jump)
	g.put(module+96, 1)
	g.put(module+104, call)
	g.put(module+112, 1)
}

// TestCheckCodeOfModules has a module whose tables refer to the code of its start,
// where another module's code is now: they say nothing of that, and hide nothing.
func TestCheckCodeOfModules(t *testing.T) {
	push := []byte{0x55, 0x48, 0x89, 0xe5, 0xc3}
	calls := slices.Concat(push, jump(0xe8, 5, 0x40)) // within its own code
	type modules struct{ first, firstBase, secondBase vmi.VirtAddr }
	newGuest := func() (g codeGuest, m modules) {
		g = newCodeGuest(t)
		m.first, m.firstBase = g.module("first", "first_open", slices.Concat(push, []byte{0x0f, 0x1f, 0x44, 0, 0}))
		_, m.secondBase = g.module("second", "second_open", calls)
		return g, m
	}
	check := func(name string, g codeGuest, want ...string) {
		t.Helper()
		got := g.findings(t)
		ok := len(got) == len(want)
		for i := range got {
			ok = ok && strings.HasPrefix(got[i], want[i])
		}
		if !ok {
			t.Errorf("%s: found %q, want %q", name, got, want)
		}
	}
	g, m := newGuest()
	check("no tables", g)
	g.site(m.first, m.firstBase+5)
	check("sites of its own", g)
	g.put(m.firstBase+5, string(jump(0xe9, 5, 0x40)))
	check("sites of its own that were changed", g, "changed code: first_open+0x5 [first]: a jump to")

	g, m = newGuest()
	g.site(m.first, m.secondBase+5)
	check("sites in freed code", g)
	earlier := g.open(t)
	now, m := newGuest()
	now.site(m.first, m.secondBase+5)
	now.put(m.secondBase+5, string(jump(0xe8, 5, 0x50)))
	var compared []Finding
	for f, err := range now.open(t).CompareCode(earlier) {
		if err != nil {
			t.Fatal(err)
		}
		compared = append(compared, f)
	}
	if len(compared) != 1 || compared[0].Name != "second_open+0x6 [second]" {
		t.Errorf("a change where a site in freed code was: found %+v", compared)
	}
	now.put(m.secondBase, string(jump(0xe9, 0, 0x100000)))
	check("a function of the other module", now, "changed code: second_open+0x0 [second]: a jump to")
}

// TestCheckCodeOfHostileGuest has tables that lead nowhere and do not end.
func TestCheckCodeOfHostileGuest(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(g codeGuest)
		want error
	}{
		"records of ftrace without end": {func(g codeGuest) { g.put(g.read(kernelData+dPagesStart)+16, 1<<30) }, ErrCorrupt},
		"pages of ftrace in a circle": {func(g codeGuest) {
			page := g.read(kernelData + dPagesStart)
			g.put(page, page)
		}, ErrCorrupt},
		"records of ftrace astray": {func(g codeGuest) { g.put(g.read(kernelData+dPagesStart)+8, vmi.VirtAddr(0xffffc00000000000)) }, vmi.ErrNotPresent},
		"users of ftrace in a circle": {func(g codeGuest) {
			ops := virt(g.alloc(32))
			g.put(ops+8, ops)
			g.put(kernelData+dOpsList, ops)
		}, ErrCorrupt},
		"kprobes in a circle": {func(g codeGuest) {
			g.probe(cProbed)
			p := g.read(kernelData + dProbes + 8*5)
			g.put(p, p)
		}, ErrCorrupt},
		"keys astray":          {func(g codeGuest) { g.put(kernelData+dJumps+8, uint64(1)<<40) }, vmi.ErrNotPresent},
		"code that is missing": {func(g codeGuest) { g.Remove((textPhys + 0x8000).GFN()) }, vmi.ErrNotMapped},
		"list of BPF astray":   {func(g codeGuest) { g.put(kernelData+dKsyms, vmi.VirtAddr(16)) }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			g := newCodeGuest(t)
			tt.edit(g)
			for _, err := range g.open(t).CheckCode() {
				if err != nil {
					if !errors.Is(err, tt.want) || strings.Contains(err.Error(), "\n") {
						t.Errorf("error = %v, want %v", err, tt.want)
					}
					return
				}
			}
			t.Error("no error")
		})
	}
}

func TestCompareCode(t *testing.T) {
	earlier := newCodeGuest(t).open(t)
	compare := func(g codeGuest) (all []Finding, err error) {
		for f, err := range g.open(t).CompareCode(earlier) {
			if err != nil {
				return all, err
			}
			all = append(all, f)
		}
		return all, nil
	}
	g := newCodeGuest(t)
	if got, err := compare(g); err != nil || got != nil {
		t.Errorf("unchanged: %v, %v", got, err)
	}
	// What the kernel changes itself.
	g.code(cTraced, jump(0xe8, cTraced, cFtrace))
	g.code(cJump, jump(0xe9, cJump, cJump+0x40))
	g.code(cProbed, []byte{0xcc})
	g.probe(cProbed)
	if got, err := compare(g); err != nil || got != nil {
		t.Errorf("changed by the kernel: %v, %v", got, err)
	}
	g.code(cPlain+0x123, []byte{1, 0, 2})
	g.code(cPlain+0x200, []byte{0x90})
	want := []Finding{
		{Kind: ChangedCode, Number: 3, Name: "plain+0x123", Addr: kernelText + cPlain + 0x123, Where: "bytes 01 00 02, before 00 00 00"},
		{Kind: ChangedCode, Number: 1, Name: "plain+0x200", Addr: kernelText + cPlain + 0x200, Where: "bytes 90, before 00"},
	}
	got, err := compare(g)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	g.put(kernelData+dBanner, "Linux version 6.1.0-99-test (me@here) (gcc) #2 SMP\n")
	if _, err := compare(g); !errors.Is(err, ErrOtherKernel) {
		t.Errorf("of another build: %v", err)
	}
}

// TestRelocated has numbers that differ as at another random address, and others.
func TestRelocated(t *testing.T) {
	const move, other = 0x1e00000, 0x3c5000
	put := func(v uint32) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte{0x48, 0xc7, 0xc7}, v), 0xc3)
	}
	old := put(0x81234567)
	for _, tt := range []struct {
		now  uint32
		want bool
	}{
		{0x81234567 + move, true}, {0x81234567 + other - move, true}, {0x81234567 - move, true},
		{0x81234567 + move + 1, false}, {0x81234567 + 0x1000, false}, {0x7f, false},
	} {
		var found []Finding
		d := codeDiff{is: &codeImage{k: &Kernel{syms: &Symbols{}}}, more: true, moves: []uint32{move, other},
			yield: func(f Finding, _ error) bool { found = append(found, f); return true }}
		now := put(tt.now)
		d.compare(&codeRange{Range: Range{kernelText, kernelText + 8}, bytes: old},
			&codeRange{Range: Range{kernelText + move, kernelText + move + vmi.VirtAddr(len(now))}, bytes: now})
		if (len(found) == 0) != tt.want {
			t.Errorf("%#x: found %+v", tt.now, found)
		}
	}
}

// FuzzCheckCode has arbitrary bytes in the kernel's tables of what it changes, and
// at the beginning of a function: the check ends, and does not panic.
func FuzzCheckCode(f *testing.F) {
	f.Add([]byte{0xe9, 1, 2, 3, 4}, []byte{1}, uint16(0))
	f.Add([]byte{0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xe0}, []byte{0xff, 0xff, 0xff, 0x7f}, uint16(dPagesStart-dJumps))
	f.Add([]byte{0x68, 1, 2, 3, 4, 0xc7, 0x44, 0x24, 4, 0, 0, 0, 0, 0xc3}, []byte{0, 0, 0, 0}, uint16(dOpsList-dJumps))
	g := newCodeGuest(f)
	k := g.open(f)
	const tables = dProbes + 0x200 - dJumps
	was := make([]byte, tables)
	if _, err := g.mem.ReadAt(was, data(dJumps)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, code, table []byte, at uint16) {
		g.code(cPlain, append(slices.Clone(code[:min(len(code), 64)]), make([]byte, 64)...))
		now := slices.Clone(was)
		copy(now[int(at)%tables:], table)
		g.Write(data(dJumps), now)
		for _, err := range k.CheckCode() {
			if err != nil {
				break
			}
		}
		for _, err := range k.CompareCode(k) {
			if err != nil {
				break
			}
		}
	})
}
