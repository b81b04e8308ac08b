package strace

import (
	"strconv"
	"time"
)

// Param is one parameter of a system call as the guest's own metadata gives
// it, e.g. {"filename", "const char *"}.
type Param struct {
	Name, Type string
}

// Syscall describes one system call of the guest.
type Syscall struct {
	Nr   uint64
	Name string // the kernel's name without a prefix: openat, newfstat
	// Params are used for calls that this package does not know by name.
	Params []Param
}

// Registers are a thread's raw values when it enters a system call.
type Registers struct {
	Nr   uint64
	Args [6]uint64
	SP   uint64 // user stack pointer; rt_sigreturn's frame is found through it
}

// MaxNr bounds the system call numbers that a decoder keeps a name for.
const MaxNr = 4096

// Decoder turns system calls into text. It is not safe for concurrent use.
type Decoder struct {
	calls []*callInfo // by number
	raw   callInfo
	s     state
}

// callInfo is what is known of one call of this guest.
type callInfo struct {
	name  string
	spec  *spec
	known bool
}

// NewDecoder returns a decoder for a guest with these system calls. With none
// it uses the numbers of the linux/amd64 ABI.
func NewDecoder(calls []Syscall) *Decoder {
	d := &Decoder{}
	d.s.buf = make([]byte, 0, 512)
	if len(calls) == 0 {
		calls = abiCalls()
	}
	for _, c := range calls {
		if c.Nr >= MaxNr || c.Name == "" {
			continue
		}
		for uint64(len(d.calls)) <= c.Nr {
			d.calls = append(d.calls, nil)
		}
		name := Name(c.Name)
		sp := specs[name]
		if sp == nil {
			sp = genericSpec(c.Params)
		}
		d.calls[c.Nr] = &callInfo{name: name, spec: sp, known: true}
	}
	d.raw.spec = rawSpec
	return d
}

// Name returns strace's name for the call that the kernel calls name: for
// some the kernel's symbol differs from the call's public name.
func Name(name string) string {
	if n, ok := publicNames[name]; ok {
		return n
	}
	return name
}

// Call is one system call in flight, and then completed. Its zero value is
// ready for [Decoder.Entry]; it may be used again for another call, which
// saves its memory.
type Call struct {
	Nr   uint64
	Args [6]uint64
	// Ret is the raw return value, valid once Done.
	Ret int64
	// Entered is false if the call was in flight when tracing began.
	Entered bool
	Done    bool

	info   *callInfo
	kinds  []kind
	rawInf callInfo // of a call without a name
	spans  [8]span
	n      int // arguments of the call's form
	ready  int // leading arguments whose text was final at entry
	wait   [8]bool
	stash  uint64
	sp     uint64
	text   []byte
	start  time.Time
	note   span // strace's remark after the return value
	errno  int
}

type span struct{ from, to int }

// keepText is how much memory a call keeps from one use to the next.
const keepText = 8 << 10

// Name returns the call's name: syscall_0x… if it has none.
func (c *Call) Name() string {
	if c.info == nil {
		return "syscall"
	}
	return c.info.name
}

// Errno returns the error number of a completed call, 0 if it succeeded.
func (c *Call) Errno() int { return c.errno }

// NArgs returns the number of arguments that the call's form shows.
func (c *Call) NArgs() int { return c.n }

// Arg returns the text of argument i. It is valid until the call's next
// Entry or Exit and empty if the argument is only known at exit.
func (c *Call) Arg(i int) []byte {
	if i < 0 || i >= c.n {
		return nil
	}
	return c.text[c.spans[i].from:c.spans[i].to]
}

// NeverReturns reports whether the call ends its thread: it has no exit.
func (c *Call) NeverReturns() bool { return c.info != nil && c.info.spec.noReturn }

func (d *Decoder) lookup(c *Call) {
	if c.Nr < uint64(len(d.calls)) && d.calls[c.Nr] != nil {
		c.info = d.calls[c.Nr]
		return
	}
	if c.rawInf.spec == nil || c.rawInf.name == "" || c.info != &c.rawInf {
		c.rawInf.spec = rawSpec
	}
	c.rawInf.name = "syscall_0x" + strconv.FormatUint(c.Nr, 16)
	c.info = &c.rawInf
}

// NameOf returns the name of the call with this number, "" if it has none.
func (d *Decoder) NameOf(nr uint64) string {
	if nr < uint64(len(d.calls)) && d.calls[nr] != nil {
		return d.calls[nr].name
	}
	return ""
}

// Entry begins call c. It reads what the caller passed in from mem: strings
// and structures are captured now, because the kernel or another thread may
// change them. What is not readable yet is tried again at exit, when the
// kernel has faulted it in.
func (d *Decoder) Entry(c *Call, r Registers, mem Reader) {
	text := c.text[:0]
	if cap(text) > keepText {
		text = nil
	}
	*c = Call{Nr: r.Nr, Args: r.Args, Entered: true, sp: r.SP, text: text}
	d.lookup(c)
	c.kinds = c.info.spec.form(&c.Args)
	c.n = len(c.kinds)
	d.begin(c, mem)
	s := &d.s
	c.ready = c.n
	for i := range c.n {
		k := &c.kinds[i]
		s.failed, s.used = false, 0
		if k.out {
			if k.pre != nil {
				k.pre(s, c.raw(i))
			}
		} else {
			from := len(s.buf)
			k.put(s, c.raw(i))
			if !s.failed {
				c.spans[i] = span{from, len(s.buf)}
				continue
			}
			s.buf = s.buf[:from]
		}
		c.wait[i] = true
		c.ready = min(c.ready, i)
	}
	d.end(c)
}

func (c *Call) raw(i int) uint64 {
	if i >= len(c.Args) {
		return 0
	}
	return c.Args[i]
}

// begin hands c's state to the kinds, end takes it back.
func (d *Decoder) begin(c *Call, mem Reader) {
	s := &d.s
	s.mem, s.buf, s.args, s.sp = mem, c.text, c.Args, c.sp
	s.exit, s.out, s.ret, s.errno, s.stash = false, false, 0, 0, c.stash
}

func (d *Decoder) end(c *Call) {
	c.text, c.stash = d.s.buf, d.s.stash
	d.s.mem, d.s.buf = nil, nil
}

// Attach makes c a call of number nr that was in flight when tracing began:
// its arguments are unknown, its exit can still be shown.
func (d *Decoder) Attach(c *Call, nr uint64) {
	*c = Call{Nr: nr, text: c.text[:0]}
	d.lookup(c)
}

// Exit completes call c with the raw return value, reading from mem what the
// kernel has filled in.
func (d *Decoder) Exit(c *Call, ret int64, mem Reader) {
	c.Ret, c.Done, c.errno = ret, true, 0
	if ret < 0 && ret >= -4095 && !c.info.spec.alwaysOK {
		c.errno = int(-ret)
	}
	if !c.Entered {
		return
	}
	d.begin(c, mem)
	s := &d.s
	s.exit, s.ret, s.errno = true, ret, c.errno
	for i := range c.n {
		if !c.wait[i] {
			continue
		}
		k := &c.kinds[i]
		s.failed, s.used, s.out = false, 0, k.out
		from := len(s.buf)
		if !k.out && c.info.spec.newImage && ret == 0 {
			// The address is the old image's, the memory the new one's.
			s.ptr(c.raw(i))
		} else {
			k.put(s, c.raw(i))
		}
		c.spans[i] = span{from, len(s.buf)}
	}
	c.note = span{len(s.buf), len(s.buf)}
	if note := c.info.spec.note; note != nil && c.errno == 0 {
		s.failed, s.used, s.out = false, 0, true
		note(s)
		c.note.to = len(s.buf)
	}
	d.end(c)
}

// AppendEntry appends the call's text as far as it is known at entry, without
// the closing parenthesis: "read(3, ".
func (c *Call) AppendEntry(dst []byte) []byte {
	dst = append(dst, c.Name()...)
	dst = append(dst, '(')
	for i := range c.ready {
		if i > 0 && !c.kinds[i].glue {
			dst = append(dst, ", "...)
		}
		dst = append(dst, c.Arg(i)...)
	}
	if c.ready > 0 && c.ready < c.n && !c.kinds[c.ready].glue {
		dst = append(dst, ", "...)
	}
	return dst
}

// AppendRest appends what follows AppendEntry's text, with the closing
// parenthesis.
func (c *Call) AppendRest(dst []byte) []byte {
	for i := c.ready; i < c.n; i++ {
		if i > c.ready && !c.kinds[i].glue {
			dst = append(dst, ", "...)
		}
		dst = append(dst, c.Arg(i)...)
	}
	return append(dst, ')')
}

// AppendResult appends the return value: "= 3", "= -1 ENOENT (No such file or
// directory)", or "= ?" for a call that has not returned.
func (c *Call) AppendResult(dst []byte) []byte {
	dst = append(dst, "= "...)
	switch {
	case !c.Done:
		return append(dst, '?')
	case c.errno != 0:
		return appendErrno(dst, c.errno)
	}
	s := state{buf: dst}
	form := c.info.spec.ret
	if h := c.info.spec.hexIf; h != nil && c.Entered && h(&c.Args) {
		form = retHex
	}
	switch form {
	case retHex:
		s.hex(uint64(c.Ret))
	case retOct:
		if c.Ret == 0 {
			s.char('0')
		} else {
			s.mode(uint64(c.Ret))
		}
	case retUint:
		s.udec(uint64(c.Ret) & 0xffffffff)
	default:
		s.dec(c.Ret)
	}
	dst = s.buf
	if c.note.to > c.note.from {
		dst = append(dst, ' ')
		dst = append(dst, c.text[c.note.from:c.note.to]...)
	}
	return dst
}
