package linux

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/govmi/govmi/vmi"
)

// codeFields are what the kernel keeps about its own code, and about what it put
// into it.
type codeFields struct {
	JumpCode   Field `btf:"jump_entry.code?"`
	JumpTarget Field `btf:"jump_entry.target?"`
	JumpKey    Field `btf:"jump_entry.key?"`
	KeyEnabled Field `btf:"static_key.enabled.counter?"`

	SiteAddr Field `btf:"static_call_site.addr?"`
	SiteKey  Field `btf:"static_call_site.key?"`
	KeyFunc  Field `btf:"static_call_key.func?"`

	PageNext    Field `btf:"ftrace_page.next?"`
	PageRecords Field `btf:"ftrace_page.records?"`
	PageIndex   Field `btf:"ftrace_page.index?"`
	RecordIP    Field `btf:"dyn_ftrace.ip?"`
	OpsNext     Field `btf:"ftrace_ops.next?"`
	OpsFunc     Field `btf:"ftrace_ops.func?"`
	Trampoline  Field `btf:"ftrace_ops.trampoline?"`
	TrampSize   Field `btf:"ftrace_ops.trampoline_size?"`

	KsymList  Field `btf:"bpf_ksym.lnode?"`
	KsymStart Field `btf:"bpf_ksym.start?"`
	KsymEnd   Field `btf:"bpf_ksym.end?"`

	OptInsn Field `btf:"optimized_kprobe.optinsn.insn?"`

	ModuleJumps   Field `btf:"module.jump_entries?"`
	ModuleJumpsN  Field `btf:"module.num_jump_entries?"`
	ModuleCalls   Field `btf:"module.static_call_sites?"`
	ModuleCallsN  Field `btf:"module.num_static_call_sites?"`
	ModuleTextOld Field `btf:"module.core_layout.text_size?"`
}

// maxCode bounds the code of the kernel and its modules together; a distribution's
// kernel has 16 MiB.
const (
	maxCode    = 128 << 20
	maxModules = 1 << 13
)

// codeRange is code of the kernel, or of a module.
type codeRange struct {
	Range
	module string // empty: the kernel's own
	bytes  []byte
}

// codeImage is the code that the guest runs in kernel mode, as it is in memory.
type codeImage struct {
	k      *Kernel
	f      *codeFields
	r      *reader
	ranges []codeRange // the kernel's, then the modules' in ascending order
	// made is code that the kernel made as it ran, of BPF and of ftrace: in
	// ascending order, without overlaps.
	made    []Range
	modules []Module
}

// readCode reads the code of the kernel and its modules.
func (k *Kernel) readCode() (*codeImage, error) {
	f, err := k.fields.code.of(k)
	if err != nil {
		return nil, err
	}
	own, err := k.code()
	if err != nil {
		return nil, err
	}
	c := &codeImage{k: k, f: f, r: &reader{s: k.as}}
	left := maxCode
	if err := c.add(codeRange{Range: own}, &left); err != nil {
		return nil, fmt.Errorf("kernel's code: %w", err)
	}
	for m, err := range k.Modules() {
		if err != nil {
			return nil, err
		}
		if len(c.modules) >= maxModules {
			return nil, fmt.Errorf("%w: more than %d modules", ErrCorrupt, maxModules)
		}
		if m.State != ModuleLive || len(m.Ranges) == 0 || m.Ranges[0].Start != m.Base {
			continue // without code, or not to be run
		}
		text := m.Ranges[0]
		if f.ModuleTextOld.Size != 0 {
			text.End = text.Start + vmi.VirtAddr(c.r.uint(f.ModuleTextOld, m.Addr))
		}
		if err := c.r.err; err != nil {
			return nil, fmt.Errorf("module %s: %w", m.Name, err)
		}
		if text.Start == text.End {
			continue
		}
		if err := c.add(codeRange{Range: text, module: m.Name}, &left); err != nil {
			return nil, fmt.Errorf("code of module %s: %w", m.Name, err)
		}
		c.modules = append(c.modules, m)
	}
	slices.SortFunc(c.ranges[1:], func(a, b codeRange) int { return cmp.Compare(a.Start, b.Start) })
	return c, c.findMade()
}

func (c *codeImage) add(r codeRange, left *int) error {
	if r.End <= r.Start || r.Start < kernelHalf || r.End-r.Start > vmi.VirtAddr(*left) {
		return fmt.Errorf("%w: it is from %v to %v", ErrCorrupt, r.Start, r.End)
	}
	*left -= int(r.End - r.Start)
	r.bytes = make([]byte, r.End-r.Start)
	if _, err := c.k.as.Read(r.Start, r.bytes); err != nil {
		return err
	}
	c.ranges = append(c.ranges, r)
	return nil
}

// maxMade bounds the pieces of code that the kernel made.
const maxMade = 1 << 16

// findMade finds code that belongs to no module: the trampolines of ftrace, and
// programs, trampolines and dispatchers of BPF.
func (c *codeImage) findMade() error {
	f := c.f
	if list, err := c.k.syms.Lookup("ftrace_ops_list"); err == nil && f.Trampoline.Size != 0 && f.TrampSize.Size != 0 {
		for ops, err := range c.tracers(list) {
			if err != nil {
				return err
			}
			start := c.r.ptr(f.Trampoline, ops)
			c.addMade(start, start+vmi.VirtAddr(c.r.uint(f.TrampSize, ops)))
		}
	}
	if list, err := c.k.syms.Lookup("bpf_kallsyms"); err == nil && f.KsymList.Size != 0 {
		for sym, err := range c.k.list(list, f.KsymList.Offset) {
			if err != nil {
				return fmt.Errorf("code of BPF: %w", err)
			}
			c.addMade(c.r.ptr(f.KsymStart, sym), c.r.ptr(f.KsymEnd, sym))
			if c.r.err != nil {
				break
			}
		}
	}
	if c.r.err != nil {
		return fmt.Errorf("code made by the kernel: %w", c.r.err)
	}
	slices.SortFunc(c.made, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	merged := c.made[:0]
	for _, r := range c.made {
		if n := len(merged); n > 0 && merged[n-1].End >= r.Start {
			merged[n-1].End = max(merged[n-1].End, r.End)
		} else {
			merged = append(merged, r)
		}
	}
	c.made = merged
	return nil
}

func (c *codeImage) addMade(start, end vmi.VirtAddr) {
	if start >= kernelHalf && end > start && end-start <= maxCode && len(c.made) < maxMade {
		c.made = append(c.made, Range{start, end})
	}
}

// tracers yields the ftrace_ops that are registered.
func (c *codeImage) tracers(list vmi.VirtAddr) func(yield func(vmi.VirtAddr, error) bool) {
	return func(yield func(vmi.VirtAddr, error) bool) {
		end, err := c.k.syms.Lookup("ftrace_list_end")
		if err != nil {
			yield(0, err)
			return
		}
		next := Field{Path: "ftrace_ops_list", Size: 8}
		ops := c.r.ptr(next, list)
		for range maxMade {
			if c.r.err != nil {
				yield(0, fmt.Errorf("ftrace: %w", c.r.err))
				return
			}
			if ops == 0 || ops == end || !yield(ops, nil) {
				return
			}
			ops = c.r.ptr(c.f.OpsNext, ops)
		}
		yield(0, fmt.Errorf("%w: the list of ftrace's users does not end", ErrCorrupt))
	}
}

// at returns n bytes of code, or nil if va is not in the code that was read.
func (c *codeImage) at(va vmi.VirtAddr, n int) []byte {
	if r := c.rangeOf(va); r != nil && r.End-va >= vmi.VirtAddr(n) {
		return r.bytes[va-r.Start:][:n]
	}
	return nil
}

func (c *codeImage) rangeOf(va vmi.VirtAddr) *codeRange {
	if c.ranges[0].Contains(va) {
		return &c.ranges[0]
	}
	i := sort.Search(len(c.ranges)-1, func(i int) bool { return c.ranges[i+1].Start > va })
	if i > 0 && c.ranges[i].Contains(va) {
		return &c.ranges[i]
	}
	return nil
}

// isCode reports whether va is in code that the kernel knows.
func (c *codeImage) isCode(va vmi.VirtAddr) bool { return c.rangeOf(va) != nil || c.isMade(va) }

func (c *codeImage) isMade(va vmi.VirtAddr) bool {
	i := sort.Search(len(c.made), func(i int) bool { return c.made[i].Start > va })
	return i > 0 && c.made[i-1].Contains(va)
}

// name names an address, of code above all.
func (c *codeImage) name(va vmi.VirtAddr) string {
	if sym, off, ok := c.k.syms.At(va); ok {
		return fmt.Sprintf("%s+%#x", sym.Name, off)
	}
	for _, m := range c.modules {
		for _, r := range m.Ranges {
			if r.Contains(va) {
				return c.nameIn(m, va)
			}
		}
	}
	if c.isMade(va) {
		return "code of BPF or ftrace"
	}
	return ""
}

// nameIn names an address of a module, as the kernel does: by the symbol before
// it, or else from the module's beginning.
func (c *codeImage) nameIn(m Module, va vmi.VirtAddr) string {
	best := Symbol{Addr: m.Base}
	for s, err := range c.k.ModuleSymbols(m) {
		if err != nil {
			break // the address itself is told as well
		}
		if s.Addr <= va && (s.Addr > best.Addr || best.Name == "") && s.Addr >= m.Base {
			best = s
		}
	}
	return fmt.Sprintf("%s+%#x [%s]", best.Name, uint64(va-best.Addr), m.Name)
}

// where is name with the address.
func (c *codeImage) where(va vmi.VirtAddr) string {
	if name := c.name(va); name != "" {
		return fmt.Sprintf("%v (%s)", va, name)
	}
	return va.String()
}

// eachFunction calls f for the functions of the kernel and its modules.
func (c *codeImage) eachFunction(f func(Symbol)) error {
	own := c.ranges[0]
	for i := c.k.syms.find(own.Start - 1); i < c.k.syms.Len() && c.k.syms.addrs[i] < own.End; i++ {
		if s := c.k.syms.at(i); isFunction(s) {
			f(s)
		}
	}
	for _, m := range c.modules {
		text := c.rangeOf(m.Base)
		for s, err := range c.k.ModuleSymbols(m) {
			if err != nil {
				return err
			}
			if isFunction(s) && text.Contains(s.Addr) {
				f(s)
			}
		}
	}
	return nil
}

// isFunction leaves out the names of what is before functions.
func isFunction(s Symbol) bool {
	return strings.IndexByte("tTwW", s.Type) >= 0 && !strings.HasPrefix(s.Name, "__pfx_") && !strings.HasPrefix(s.Name, "__cfi_")
}
