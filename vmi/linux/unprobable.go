package linux

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/govmi/govmi/vmi"
)

// CodeRange is a range of the kernel's code.
type CodeRange struct {
	Start, End vmi.VirtAddr // End is the first address behind it
	// Why says in words what it is.
	Why string
}

// Has reports whether va is in the range.
func (c CodeRange) Has(va vmi.VirtAddr) bool { return va >= c.Start && va < c.End }

// sections are the kernel's that its own probes keep out of, by the symbols that
// its linker script puts around them (include/asm-generic/vmlinux.lds.h,
// arch/x86/kernel/vmlinux.lds.S). Where the kernel enters and leaves, neither the
// stack nor the GS base needs to be its own yet.
var sections = []struct{ start, end, why string }{
	{"__entry_text_start", "__entry_text_end", "entry code"},
	{"__noinstr_text_start", "__noinstr_text_end", "code that must not be instrumented (noinstr)"},
	{"__kprobes_text_start", "__kprobes_text_end", "code that kprobes run in"},
	{"__cpuidle_text_start", "__cpuidle_text_end", "idle code"},
	{"__indirect_thunk_start", "__indirect_thunk_end", "thunks of indirect jumps and returns"},
	{"__static_call_text_start", "__static_call_text_end", "trampolines that the kernel patches"},
	{"_sinittext", "_einittext", "initialization code, whose memory is used again"},
}

const maxBlacklist = 1 << 16 // entries; Linux 6.1 has some 1,000

type blacklistFields struct {
	List  Field `btf:"kprobe_blacklist_entry.list"`
	Start Field `btf:"kprobe_blacklist_entry.start_addr"`
	End   Field `btf:"kprobe_blacklist_entry.end_addr"`
}

// Unprobable returns the ranges of the kernel's code that a breakpoint is not to
// be in, in the order of their addresses: entry code, what is noinstr, what the
// kernel has on its blacklist of kprobes, thunks, and initialization code. They may
// overlap. Ranges that the kernel does not have are left out; a kernel without
// kprobes has no blacklist.
func (k *Kernel) Unprobable() ([]CodeRange, error) {
	var all []CodeRange
	for _, s := range sections {
		start, err := k.syms.Lookup(s.start)
		end, err2 := k.syms.Lookup(s.end)
		if err == nil && err2 == nil && start < end {
			all = append(all, CodeRange{start, end, s.why})
		}
	}
	for r, err := range k.kprobeBlacklist() {
		if err != nil {
			return nil, fmt.Errorf("blacklist of kprobes: %w", err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b CodeRange) int { return cmp.Compare(a.Start, b.Start) })
	return all, nil
}

func (k *Kernel) kprobeBlacklist() iter.Seq2[CodeRange, error] {
	return func(yield func(CodeRange, error) bool) {
		head, err := k.syms.Lookup("kprobe_blacklist")
		if errors.Is(err, ErrNoSymbol) {
			return
		}
		f, err := k.fields.blacklist.of(k)
		if err != nil {
			yield(CodeRange{}, err)
			return
		}
		n := 0
		for entry, err := range k.list(head, f.List.Offset) {
			r := reader{s: k.as, err: err}
			c := CodeRange{r.ptr(f.Start, entry), r.ptr(f.End, entry), "on the kernel's blacklist of kprobes"}
			if n++; r.err == nil && n > maxBlacklist {
				r.err = fmt.Errorf("%w: more than %d entries", ErrCorrupt, maxBlacklist)
			}
			if !yield(c, r.err) || r.err != nil {
				return
			}
		}
	}
}
