package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"golang.org/x/arch/x86/x86asm"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// access is one access to the range.
type access struct {
	Time   time.Time `json:"time"`
	PID    int32     `json:"pid"`
	TID    int32     `json:"tid"`
	Comm   string    `json:"comm"`
	Access string    `json:"access"` // read, write or execute
	// Bytes is the size of the instruction's operand in memory, 0 if it does not
	// tell.
	Bytes int `json:"bytes,omitempty"`
	// Frame and Offset say where the access begins, Address its virtual address
	// if the processor knew it; they are in hexadecimal.
	Frame   string `json:"frame"`
	Offset  string `json:"offset"`
	Address string `json:"address,omitempty"`
	Symbol  string `json:"symbol,omitempty"`
	RIP     string `json:"rip"`
	// By is the kernel's function that did it.
	By string `json:"by,omitempty"`
}

// watch makes lines of accesses. Its methods may be called from any goroutine.
type watch struct {
	mu     sync.Mutex
	target target
	kinds  kinds
	limit  int // accesses, 0: none
	json   bool
	now    func() time.Time
	// code reads the instruction at RIP.
	code func(r *xen.Registers, p []byte) int
	// who tells which thread runs.
	who  func(r *xen.Registers) (pid, tid int32, comm string, err error)
	name func(va uint64) string // of a kernel address, "" if it has none
	end  func()                 // called at the limit

	buf     []byte
	seen    int
	beside  int // other accesses to the same frames
	unknown int // accesses by a thread that could not be told
}

// saw notes the access of a request.
func (w *watch) saw(r *xen.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := &r.Access
	var code [15]byte
	size := 0
	if !a.Execute {
		size = operand(code[:w.code(&r.Regs, code[:])])
	}
	s, ok := w.target.spans[a.GFN]
	if !ok || a.Offset >= s.to || a.Offset+uint64(max(1, size)) <= s.from || !w.wanted(a) || w.limit > 0 && w.seen >= w.limit {
		w.beside++
		return
	}
	w.seen++
	e := access{Time: w.now(), Access: kindOf(a), Bytes: size, RIP: fmt.Sprintf("%#x", r.Regs.RIP)}
	e.Frame, e.Offset = fmt.Sprintf("%#x", uint64(a.GFN)), fmt.Sprintf("%#x", a.Offset)
	if a.AddrValid {
		e.Address, e.Symbol = fmt.Sprintf("%#x", a.Addr), w.name(a.Addr)
	}
	e.By = w.name(r.Regs.RIP)
	var err error
	if e.PID, e.TID, e.Comm, err = w.who(&r.Regs); err != nil {
		w.unknown++
		e.Comm = "?"
	}
	w.print(e)
	if w.seen == w.limit {
		w.end()
	}
}

func (w *watch) wanted(a *xen.MemAccess) bool {
	switch {
	case a.Execute:
		return w.kinds.execute
	case a.Write: // Xen calls it a read as well
		return w.kinds.write
	}
	return w.kinds.read
}

func kindOf(a *xen.MemAccess) string {
	switch {
	case a.Execute:
		return "execute"
	case a.Write:
		return "write"
	}
	return "read"
}

func (w *watch) print(e access) {
	if w.json {
		text, err := json.Marshal(e)
		if err != nil {
			text = []byte(err.Error())
		}
		w.buf = append(append(w.buf, text...), '\n')
		return
	}
	b := fmt.Appendf(w.buf, "%s[%d] %s", e.Comm, e.TID, e.Access)
	if e.Bytes > 0 {
		b = fmt.Appendf(b, " %d bytes", e.Bytes)
	}
	b = fmt.Appendf(b, " at frame %s+%s", e.Frame, e.Offset)
	if e.Address != "" {
		b = fmt.Appendf(b, ", %s", e.Address)
	}
	if e.Symbol != "" {
		b = fmt.Appendf(b, " (%s)", e.Symbol)
	}
	if e.By != "" {
		b = fmt.Appendf(b, " by %s", e.By)
	}
	w.buf = fmt.Appendf(b, " at %s\n", e.RIP)
}

// take returns the lines since the last time.
func (w *watch) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.buf
	w.buf = nil
	return b
}

// operand returns how many bytes of memory the instruction at the start of code
// accesses, 0 if it does not tell.
func operand(code []byte) int {
	insn, err := x86asm.Decode(code, 64)
	if err != nil {
		return 0
	}
	switch insn.Op {
	case x86asm.PUSH, x86asm.POP, x86asm.CALL, x86asm.RET:
		if insn.MemBytes == 0 {
			return 8
		}
	}
	return insn.MemBytes
}

// newWatch returns a watch of a guest with a Linux kernel.
func newWatch(k *linux.Kernel, t target, o options) *watch {
	return &watch{
		target: t, kinds: o.kinds, limit: o.count, json: o.json, now: time.Now,
		code: func(r *xen.Registers, p []byte) int {
			n, _ := k.AddressSpace().WithRoot(vmi.CR3(r.CR3)).Read(vmi.VirtAddr(r.RIP), p) // what there is of it
			return n
		},
		who: func(r *xen.Registers) (pid, tid int32, comm string, err error) {
			t, err := k.CurrentTask(r)
			if err != nil {
				return 0, 0, "", err
			}
			if pid, err = t.TGID(); err != nil {
				return 0, 0, "", err
			}
			if tid, err = t.PID(); err != nil {
				return 0, 0, "", err
			}
			c, err := t.Comm()
			return pid, tid, session.Printable(c.String()), err
		},
		name: func(va uint64) string {
			s, off, ok := k.Symbols().At(vmi.VirtAddr(va))
			switch {
			case !ok:
				return ""
			case off == 0:
				return session.Printable(s.Name)
			}
			return fmt.Sprintf("%s+%#x", session.Printable(s.Name), off)
		},
		end: func() {},
	}
}
