package linux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/govmi/govmi/vmi"
)

// The places where the kernel changes its own code as it runs, of which it keeps
// tables: jump labels (static keys), static calls, and the calls of ftrace that
// most functions begin with. Other changes, such as alternatives, are made once,
// at the start, and their tables are freed then.
//
// Sources of the layouts: include/linux/jump_label.h, static_call_types.h and
// ftrace.h, arch/x86/kernel/jump_label.c and static_call.c of the kernel's source.

const (
	maxSites = 1 << 20 // of one kind; a distribution's kernel has 50,000 of ftrace

	// maxRecordPages bounds the pieces that ftrace's records are in.
	maxRecordPages = 1 << 16

	jumpInverted = 1 // jump_entry.key: code for a key that is off is the jump
	jumpFlags    = 3
	callIsTail   = 1 // static_call_site.key
	callFlags    = 3
	// callPadding is before functions whose calls are counted: a call may lead to
	// its start (arch/x86/kernel/callthunks.c).
	callPadding = 16

	longCode = 5 // bytes of a call or jump with 32 bits of distance
)

// Instructions that do nothing, as the kernel writes them.
var (
	nops5 = [][]byte{{0x0f, 0x1f, 0x44, 0, 0}, {0x66, 0x66, 0x66, 0x66, 0x90}, {0x3e, 0x8d, 0x74, 0x26, 0}}
	nop2  = []byte{0x66, 0x90}
	// xor5 returns 0 in place of a static call that would do nothing else.
	xor5 = [][]byte{{0x2e, 0x2e, 0x2e, 0x31, 0xc0}, {0x66, 0x66, 0x48, 0x31, 0xc0}}
)

func hasPrefix(b []byte, of [][]byte) bool {
	for _, p := range of {
		if bytes.HasPrefix(b, p) {
			return true
		}
	}
	return false
}

// relative returns where a jump of size bytes at va leads, whose last 4 bytes are
// the distance.
func relative(va vmi.VirtAddr, b []byte, size int) vmi.VirtAddr {
	return va + vmi.VirtAddr(size) + vmi.VirtAddr(int64(int32(binary.LittleEndian.Uint32(b[size-4:]))))
}

// siteVisitor is told of every site, with its size in bytes; wrong is empty if
// the code there is what the kernel would write, or says what it is.
type siteVisitor func(va vmi.VirtAddr, size int, wrong string)

// eachSite visits the sites of the kernel and its modules.
func (c *codeImage) eachSite(visit siteVisitor) error {
	for _, kind := range []func(siteVisitor) error{c.jumpLabels, c.staticCalls, c.ftraceSites, c.probes, c.patchedByName} {
		if err := kind(visit); err != nil {
			return err
		}
	}
	return nil
}

// tables yields a table of the kernel, between two symbols, and that of each
// module, with the code that it is of. An entry counts only inside that: a module's
// table outlives the code of its start, whose memory is freed and may be another
// module's by now. A kernel without the symbols has none.
func (c *codeImage) tables(start, stop, structure string, from, count Field, visit func(b []byte, at vmi.VirtAddr, of *codeRange) error) error {
	size, err := c.k.sizeof(structure)
	if err != nil {
		return err
	}
	one := func(at vmi.VirtAddr, n uint64, of *codeRange) error {
		if n > maxSites {
			return fmt.Errorf("%w: %d of %s", ErrCorrupt, n, structure)
		}
		b := make([]byte, n*uint64(size))
		if _, err := c.k.as.Read(at, b); err != nil {
			return fmt.Errorf("%s: %w", structure, err)
		}
		for off := 0; off < len(b); off += int(size) {
			if err := visit(b[off:][:size], at+vmi.VirtAddr(off), of); err != nil {
				return err
			}
		}
		return nil
	}
	first, err1 := c.k.syms.Lookup(start)
	end, err2 := c.k.syms.Lookup(stop)
	if err1 == nil && err2 == nil && end > first {
		if err := one(first, uint64(end-first)/uint64(size), &c.ranges[0]); err != nil {
			return err
		}
	}
	if from.Size == 0 || count.Size == 0 {
		return nil
	}
	for _, m := range c.modules {
		at, n := c.r.ptr(from, m.Addr), c.r.uint(count, m.Addr)
		if c.r.err != nil {
			return c.r.err
		}
		if n == 0 {
			continue
		}
		if err := one(at, n, c.rangeOf(m.Base)); err != nil {
			return fmt.Errorf("module %s: %w", m.Name, err)
		}
	}
	return nil
}

// self returns what a member with the distance from itself refers to.
func self(b []byte, at vmi.VirtAddr, f Field) vmi.VirtAddr {
	at += vmi.VirtAddr(f.Offset)
	if f.Size == 8 {
		return at + vmi.VirtAddr(binary.LittleEndian.Uint64(b[f.Offset:]))
	}
	return at + vmi.VirtAddr(int64(int32(binary.LittleEndian.Uint32(b[f.Offset:]))))
}

// jumpLabels: each is a jump to its own target or does nothing, as its key says.
func (c *codeImage) jumpLabels(visit siteVisitor) error {
	f := c.f
	if f.JumpKey.Size == 0 || f.KeyEnabled.Size == 0 {
		return nil
	}
	return c.tables("__start___jump_table", "__stop___jump_table", "jump_entry", f.ModuleJumps, f.ModuleJumpsN, func(b []byte, at vmi.VirtAddr, of *codeRange) error {
		va, target, key := self(b, at, f.JumpCode), self(b, at, f.JumpTarget), self(b, at, f.JumpKey)
		p := c.at(va, longCode)
		if p == nil || !of.Contains(va) {
			return nil // code of the start, which is freed
		}
		// The flags are bits of the distance, which is from a multiple of 8.
		inverted := key&jumpInverted != 0
		on := int32(c.r.uint(f.KeyEnabled, key&^jumpFlags)) > 0
		if c.r.err != nil {
			return fmt.Errorf("static key of %v: %w", va, c.r.err)
		}
		jumps, size := false, longCode
		switch {
		case hasPrefix(p, nops5):
		case bytes.HasPrefix(p, nop2):
			size = len(nop2)
		case p[0] == 0xe9 && relative(va, p, longCode) == target:
			jumps = true
		case p[0] == 0xeb && va+2+vmi.VirtAddr(int64(int8(p[1]))) == target:
			jumps, size = true, 2
		default:
			visit(va, longCode, c.instruction(va))
			return nil
		}
		wrong := ""
		if jumps != (on != inverted) {
			wrong = fmt.Sprintf("%s, against its static key %s", c.instruction(va), c.name(key&^jumpFlags))
		}
		visit(va, size, wrong)
		return nil
	})
}

// staticCalls: each leads to the function that its key names.
func (c *codeImage) staticCalls(visit siteVisitor) error {
	f := c.f
	if f.SiteAddr.Size == 0 || f.KeyFunc.Size == 0 {
		return nil
	}
	return c.tables("__start_static_call_sites", "__stop_static_call_sites", "static_call_site", f.ModuleCalls, f.ModuleCallsN, func(b []byte, at vmi.VirtAddr, of *codeRange) error {
		va, key := self(b, at, f.SiteAddr), self(b, at, f.SiteKey)
		p := c.at(va, longCode)
		if p == nil || !of.Contains(va) {
			return nil
		}
		to := c.r.ptr(f.KeyFunc, key&^callFlags)
		if c.r.err != nil {
			return fmt.Errorf("static call at %v: %w", va, c.r.err)
		}
		size := longCode
		if p[0] == 0x0f && p[1]&0xf0 == 0x80 {
			size++ // a conditional jump
		}
		wrong := ""
		if !c.isStaticCall(va, to, key&callIsTail != 0) {
			wrong = c.instruction(va)
		}
		if to != 0 && !c.isCode(to) {
			wrong = "a static call to " + c.where(to)
		}
		visit(va, size, wrong)
		return nil
	})
}

func (c *codeImage) isStaticCall(va, to vmi.VirtAddr, tail bool) bool {
	p := c.at(va, longCode+1)
	if p == nil {
		return false
	}
	leads := func(target vmi.VirtAddr) bool {
		if to == 0 { // it returns, perhaps by a thunk
			for s := range c.k.syms.startingAt(target) {
				if strings.HasSuffix(s.Name, "return_thunk") || s.Name == "__static_call_return" {
					return true
				}
			}
			return false
		}
		return target <= to && target+callPadding >= to
	}
	switch {
	case tail && p[0] == 0xe9:
		return leads(relative(va, p, longCode))
	case tail && p[0] == 0x0f && p[1]&0xf0 == 0x80:
		return leads(relative(va, p, longCode+1))
	case tail:
		return to == 0 && p[0] == 0xc3
	case p[0] == 0xe8:
		return to != 0 && leads(relative(va, p, longCode))
	case hasPrefix(p, xor5):
		return strings.HasPrefix(c.name(to), "__static_call_return0")
	}
	return to == 0 && hasPrefix(p, nops5)
}

// ftraceSites: each does nothing or calls ftrace, or code that was made for it.
func (c *codeImage) ftraceSites(visit siteVisitor) error {
	f := c.f
	pages, err := c.k.syms.Lookup("ftrace_pages_start")
	if err != nil || f.PageRecords.Size == 0 {
		return nil // a kernel without ftrace
	}
	size, err := c.k.sizeof("dyn_ftrace")
	if err != nil {
		return err
	}
	var callers []vmi.VirtAddr
	for _, name := range []string{"ftrace_caller", "ftrace_regs_caller", "ftrace_graph_caller", "__fentry__"} {
		if va, err := c.k.syms.Lookup(name); err == nil {
			callers = append(callers, va)
		}
	}
	known := func(va vmi.VirtAddr) bool {
		for _, caller := range callers {
			if va == caller {
				return true
			}
		}
		return c.isMade(va)
	}
	left := uint64(maxSites)
	page := c.r.ptr(Field{Path: "ftrace_pages_start", Size: 8}, pages)
	for n := 0; page != 0; n++ {
		records, count := c.r.ptr(f.PageRecords, page), c.r.uint(f.PageIndex, page)
		if c.r.err != nil {
			return fmt.Errorf("ftrace: %w", c.r.err)
		}
		if count > left || n > maxRecordPages {
			return fmt.Errorf("%w: ftrace has too many records", ErrCorrupt)
		}
		left -= count
		b := make([]byte, count*uint64(size))
		if _, err := c.k.as.Read(records, b); err != nil {
			return fmt.Errorf("ftrace: %w", err)
		}
		for ; len(b) >= int(size); b = b[size:] {
			va := vmi.VirtAddr(binary.LittleEndian.Uint64(b[f.RecordIP.Offset:]))
			p := c.at(va, longCode)
			if p == nil {
				continue
			}
			wrong := ""
			if !hasPrefix(p, nops5) && !(p[0] == 0xe8 && known(relative(va, p, longCode))) {
				wrong = c.instruction(va)
			}
			visit(va, longCode, wrong)
		}
		page = c.r.ptr(f.PageNext, page)
	}
	return c.r.err
}

// probes: a kprobe is an int3, or once it is optimized a jump to its own code.
func (c *codeImage) probes(visit siteVisitor) error {
	table, err := c.k.syms.Lookup("kprobe_table")
	if err != nil {
		return nil // a kernel without kprobes
	}
	f, err := c.k.fields.probe.of(c.k)
	if err != nil {
		return err
	}
	next := Field{Path: "kprobe_table", Size: 8}
	n := 0
	for i := range kprobeBuckets {
		for node := c.r.ptr(next, table+vmi.VirtAddr(8*i)); node != 0; node = c.r.ptr(next, node) {
			if n++; n > maxKProbes {
				return fmt.Errorf("%w: a hash chain of kprobes does not end", ErrCorrupt)
			}
			at := node - vmi.VirtAddr(f.Chain.Offset)
			va := c.r.ptr(f.Addr, at)
			p := c.at(va, longCode)
			if p == nil || c.r.err != nil {
				continue
			}
			if p[0] == 0xe9 && c.f.OptInsn.Size != 0 && relative(va, p, longCode) == c.r.ptr(c.f.OptInsn, at) {
				visit(va, longCode, "")
			} else if p[0] == 0xcc {
				visit(va, 1, "")
			} // one that is off, or that ftrace serves, changes nothing of its own
		}
	}
	return c.r.err
}

// patchedByName: jumps that the kernel sets and whose names tell: the
// trampolines of static calls, BPF's dispatchers, and ftrace's own calls. They lead
// to code that the kernel knows.
func (c *codeImage) patchedByName(visit siteVisitor) error {
	return c.eachFunction(func(s Symbol) {
		switch {
		case strings.HasPrefix(s.Name, "__SCT__"), strings.HasPrefix(s.Name, "bpf_dispatcher_"):
		case s.Name == "ftrace_call", s.Name == "ftrace_regs_call", s.Name == "ftrace_graph_call", s.Name == "ftrace_graph_regs_call":
		default:
			return
		}
		va := s.Addr
		if p := c.at(va, len(endbr)); bytes.Equal(p, endbr) {
			va += vmi.VirtAddr(len(endbr))
		}
		p := c.at(va, longCode)
		if p == nil || p[0] != 0xe9 && p[0] != 0xe8 {
			if hasPrefix(p, nops5) || len(p) > 0 && p[0] == 0xc3 {
				visit(va, longCode, "")
			}
			return
		}
		wrong := ""
		if !c.isCode(relative(va, p, longCode)) {
			wrong = c.instruction(va)
		}
		visit(va, longCode, wrong)
	})
}
