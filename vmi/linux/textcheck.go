package linux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"github.com/govmi/govmi/vmi"
)

// CheckCode yields what contradicts, in the code of the kernel and its modules,
// what the kernel itself knows of it. No file of the kernel's is needed: these
// things are compared, and no others.
//
//   - The places that the kernel changes as it runs and keeps tables of, each in the
//     code that the table is of, hold what it would write there: jump labels nothing
//     or a jump to their own target, as their static key says; static calls lead to
//     the function that their key names; ftrace's places hold nothing, or a call of
//     ftrace or of code that the kernel made for it.
//   - No function of the kernel, handlers of system calls and interrupts among
//     them, begins with a breakpoint, a jump or a call that leads out of the kernel's
//     code, but for registered kprobes and calls of the kernel's start, whose memory
//     is freed; no function of a module with one that leads out of all code that the
//     kernel knows.
//   - The functions that ftrace calls are in code that the kernel knows.
//
// What memory alone does not tell is not found: a change in the middle of a
// function, a jump at its beginning to other code of the kernel, a change of a
// table together with the code; alternatives, paravirt calls and return thunks are
// changed once, at the start, from tables that are freed then. An earlier state
// tells these: see [Kernel.CompareCode].
//
// The guest is to be paused; one that is caught while it changes its own code
// shows a breakpoint where that happens, or a jump label against its key, and one
// that is caught while it loads a module may show that module's code as foreign.
// All code is read: some 16 MiB. A frame that cannot be read, as in a recording of
// other things, is an error.
func (k *Kernel) CheckCode() iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		c, err := k.readCode()
		if err != nil {
			yield(Finding{}, err)
			return
		}
		if err := c.check(yield); err != nil {
			yield(Finding{}, fmt.Errorf("check of the code: %w", err))
		}
	}
}

func (c *codeImage) check(yield func(Finding, error) bool) error {
	more := true
	found := func(f Finding) {
		if more {
			more = yield(f, nil)
		}
	}
	sites := make(map[vmi.VirtAddr]int)
	if err := c.eachSite(func(va vmi.VirtAddr, size int, wrong string) {
		if _, seen := sites[va]; !seen && wrong != "" {
			found(Finding{Kind: ChangedCode, Name: c.name(va), Addr: va, Where: wrong})
		}
		sites[va] = max(sites[va], size) // a kprobe can be at one of ftrace's
	}); err != nil || !more {
		return err
	}
	if err := c.eachFunction(func(s Symbol) {
		at := c.skip(s.Addr, sites)
		if _, seen := sites[at]; seen {
			return // it has been looked at
		}
		if wrong := c.leavesCode(at); wrong != "" {
			sites[at] = 1 // several symbols can be there
			found(Finding{Kind: ChangedCode, Name: c.functionName(s, at), Addr: at, Where: wrong})
		}
	}); err != nil || !more {
		return err
	}
	list, err := c.k.syms.Lookup("ftrace_ops_list")
	if err != nil || c.f.OpsFunc.Size == 0 {
		return nil // a kernel without ftrace
	}
	for ops, err := range c.tracers(list) {
		if err != nil {
			return err
		}
		if to := c.r.ptr(c.f.OpsFunc, ops); c.r.err == nil && !c.isCode(to) {
			found(Finding{Kind: ForeignTracer, Addr: to, Where: c.name(to)})
		}
	}
	return c.r.err
}

func (c *codeImage) functionName(s Symbol, at vmi.VirtAddr) string {
	name := fmt.Sprintf("%s+%#x", s.Name, uint64(at-s.Addr))
	if r := c.rangeOf(at); r.module != "" {
		name += " [" + r.module + "]"
	}
	return name
}

var (
	endbr = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	// nothings are what a function can begin with and that does nothing.
	nothings = [][]byte{
		endbr, {0x66, 0x0f, 0x1f, 0x00}, {0x0f, 0x1f, 0x40, 0xd6}, // and what the kernel seals one with
		{0x0f, 0x1f, 0x00}, {0x0f, 0x1f, 0x40, 0x00}, {0x0f, 0x1f, 0x44, 0, 0}, {0x66, 0x0f, 0x1f, 0x44, 0, 0},
		{0x0f, 0x1f, 0x80, 0, 0, 0, 0}, {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}, {0x66, 0x66, 0x66, 0x66, 0x90}, {0x66, 0x90}, {0x90},
	}
)

const (
	maxNothings = 16
	longest     = 14 // bytes of what is decoded
)

// skip returns where the first instruction at va is that does something, sites
// that hold what they should included.
func (c *codeImage) skip(va vmi.VirtAddr, sites map[vmi.VirtAddr]int) vmi.VirtAddr {
next:
	for range maxNothings {
		p := c.at(va, longest)
		if size, ok := sites[va]; ok && p != nil && (p[0] == 0xe8 || hasPrefix(p, nops5)) {
			va += vmi.VirtAddr(size)
			continue
		}
		for _, n := range nothings {
			if bytes.HasPrefix(p, n) {
				va += vmi.VirtAddr(len(n))
				continue next
			}
		}
		break
	}
	return va
}

// leavesCode says how the instruction at va leads out of the code that it may lead
// to, or nothing: from the kernel's own code to the kernel's own, from a module or
// by a pointer to any.
func (c *codeImage) leavesCode(va vmi.VirtAddr) string {
	p := c.at(va, longest)
	if p == nil {
		return ""
	}
	if p[0] == 0xcc {
		for s := range c.k.syms.startingAt(va) {
			if strings.HasSuffix(s.Name, "_end") {
				return ""
			}
		}
		if p[1] == 0xcc {
			return "" // no code, but what is between functions
		}
		return c.instruction(va)
	}
	to, ok := c.target(va, p)
	if !ok {
		return ""
	}
	// What a pointer in data leads to may be a module's, or nothing yet.
	byPointer := p[0] == 0xff
	if from := c.rangeOf(va); from.Contains(to) || (byPointer || from.module != "") && c.isCode(to) || byPointer && to == 0 || c.isStart(to) {
		return ""
	}
	return c.instruction(va)
}

// isStart reports whether va is a function of the kernel's start, which is freed:
// some functions that are not called any more begin with a call to one.
func (c *codeImage) isStart(va vmi.VirtAddr) bool {
	begin, err1 := c.k.syms.Lookup("__init_begin")
	end, err2 := c.k.syms.Lookup("__init_end")
	if err1 != nil || err2 != nil || va < begin || va >= end {
		return false
	}
	for s := range c.k.syms.startingAt(va) {
		if isFunction(s) {
			return true
		}
	}
	return false
}

// target returns where the instruction at va leads, or the few that together are
// a jump to any address.
func (c *codeImage) target(va vmi.VirtAddr, p []byte) (vmi.VirtAddr, bool) {
	imm32 := func(off int) vmi.VirtAddr { return vmi.VirtAddr(int64(int32(binary.LittleEndian.Uint32(p[off:])))) }
	switch {
	case p[0] == 0xe8, p[0] == 0xe9:
		return relative(va, p, 5), true
	case p[0] == 0x0f && p[1]&0xf0 == 0x80:
		return relative(va, p, 6), true
	case p[0] == 0xff && (p[1] == 0x15 || p[1] == 0x25): // by a pointer
		to, err := c.k.as.Uint64(relative(va, p, 6))
		return vmi.VirtAddr(to), err == nil
	case p[0] == 0x68 && p[5] == 0xc3: // push, ret
		return imm32(1), true
	case p[0] == 0x68 && bytes.HasPrefix(p[5:], []byte{0xc7, 0x44, 0x24, 0x04}) && p[13] == 0xc3: // push, mov above it, ret
		return imm32(1)&0xffffffff | imm32(9)<<32, true
	case p[0] == 0x48 && p[1]&0xf8 == 0xb8: // mov of 64 bits, then jmp, or push and ret
		reg := p[1] & 7
		if p[10] == 0xff && p[11] == 0xe0|reg || p[10] == 0x50|reg && p[11] == 0xc3 {
			return vmi.VirtAddr(binary.LittleEndian.Uint64(p[2:])), true
		}
	case p[0] == 0x49 && p[1]&0xf8 == 0xb8: // the same with R8 to R15
		reg := p[1] & 7
		if p[10] == 0x41 && (p[11] == 0xff && p[12] == 0xe0|reg || p[11] == 0x50|reg && p[12] == 0xc3) {
			return vmi.VirtAddr(binary.LittleEndian.Uint64(p[2:])), true
		}
	}
	return 0, false
}

// instruction describes what is at va, for people.
func (c *codeImage) instruction(va vmi.VirtAddr) string {
	p := c.at(va, longest)
	if p == nil {
		return "code that ends"
	}
	if p[0] == 0xcc {
		return "a breakpoint"
	}
	to, ok := c.target(va, p)
	switch {
	case !ok:
		return fmt.Sprintf("bytes % x", p[:8])
	case p[0] == 0xe8 || p[0] == 0xff && p[1] == 0x15:
		return "a call to " + c.where(to)
	}
	return "a jump to " + c.where(to)
}
