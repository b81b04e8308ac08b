package linux

import (
	"encoding/hex"
	"fmt"
	"iter"
	"time"

	"github.com/govmi/govmi/vmi"
)

// BPFProgram is a program loaded into the kernel with bpf(2).
type BPFProgram struct {
	ID uint32
	// Type is the number of BPF_PROG_LOAD, 1 for a socket filter.
	Type uint32
	Name string
	// Tag is the digest of its instructions that bpftool shows.
	Tag string
	// Loaded is when, after the guest's boot.
	Loaded time.Duration
}

// KProbe is a breakpoint that the kernel has set in its own code.
type KProbe struct {
	Addr vmi.VirtAddr
	// Symbol and Offset name the address.
	Symbol string
	Offset uint64
	// Handler is the function that it calls, by its symbol; empty for a
	// module's.
	Handler  string
	Disabled bool
}

type probeFields struct {
	IDR      Field `btf:"idr.idr_rt.xa_head"`
	Type     Field `btf:"bpf_prog.type"`
	Tag      Field `btf:"bpf_prog.tag"`
	Aux      Field `btf:"bpf_prog.aux"`
	ID       Field `btf:"bpf_prog_aux.id"`
	Name     Field `btf:"bpf_prog_aux.name"`
	LoadTime Field `btf:"bpf_prog_aux.load_time"`

	Chain   Field `btf:"kprobe.hlist"`
	List    Field `btf:"kprobe.list"`
	Addr    Field `btf:"kprobe.addr"`
	Handler Field `btf:"kprobe.pre_handler"`
	Flags   Field `btf:"kprobe.flags"`
}

const (
	kprobeBuckets  = 64 // KPROBE_TABLE_SIZE
	maxKProbes     = 1 << 20
	kprobeDisabled = 2 // kprobe.flags
)

// BPFPrograms yields the programs that are loaded, by their numbers.
func (k *Kernel) BPFPrograms() iter.Seq2[BPFProgram, error] {
	return func(yield func(BPFProgram, error) bool) {
		f, err := k.fields.probe.of(k)
		if err != nil {
			yield(BPFProgram{}, err)
			return
		}
		index, err := k.fields.index.of(k)
		if err != nil {
			yield(BPFProgram{}, err)
			return
		}
		idr, err := k.syms.Lookup("prog_idr")
		if err != nil {
			yield(BPFProgram{}, err)
			return
		}
		r := &reader{s: k.as}
		for prog, err := range xarray(r, index, r.ptr(f.IDR, idr)) {
			var p BPFProgram
			if err == nil {
				aux := r.ptr(f.Aux, prog)
				p = BPFProgram{
					ID: uint32(r.uint(f.ID, aux)), Type: uint32(r.uint(f.Type, prog)), Name: r.name(f.Name, aux),
					Tag: hex.EncodeToString(r.bytes(f.Tag, prog)), Loaded: time.Duration(r.uint(f.LoadTime, aux)),
				}
				err = r.err
			}
			if err != nil {
				err = fmt.Errorf("BPF programs: %w", err)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// KProbes yields the kprobes that are registered, in no order.
func (k *Kernel) KProbes() iter.Seq2[KProbe, error] {
	return func(yield func(KProbe, error) bool) {
		f, err := k.fields.probe.of(k)
		if err != nil {
			yield(KProbe{}, err)
			return
		}
		table, err := k.syms.Lookup("kprobe_table")
		if err != nil {
			yield(KProbe{}, err)
			return
		}
		w := kprobeWalk{k: k, f: f, r: &reader{s: k.as}, yield: yield}
		for i := range kprobeBuckets {
			if more, err := w.chain(table + vmi.VirtAddr(8*i)); err != nil {
				yield(KProbe{}, fmt.Errorf("kprobes: %w", err))
				return
			} else if !more {
				return
			}
		}
	}
}

type kprobeWalk struct {
	k     *Kernel
	f     *probeFields
	r     *reader
	count int
	yield func(KProbe, error) bool
}

func (w *kprobeWalk) chain(head vmi.VirtAddr) (more bool, err error) {
	next := Field{Path: "kprobe_table", Size: 8}
	for node := w.r.ptr(next, head); node != 0; node = w.r.ptr(next, node) {
		if w.count++; w.count > maxKProbes {
			return false, fmt.Errorf("%w: a hash chain does not end", ErrCorrupt)
		}
		at := node - vmi.VirtAddr(w.f.Chain.Offset)
		p := w.kprobe(at)
		if w.r.err != nil {
			return false, w.r.err
		}
		if p.Handler != "aggr_pre_handler" {
			if !w.yield(p, nil) {
				return false, nil
			}
			continue
		}
		// It stands for several at one address.
		for one, err := range w.k.list(w.r.in(w.f.List, at), w.f.List.Offset) {
			if err != nil {
				return false, err
			}
			if p := w.kprobe(one); w.r.err == nil && !w.yield(p, nil) {
				return false, nil
			}
		}
	}
	return true, w.r.err
}

func (w *kprobeWalk) kprobe(at vmi.VirtAddr) KProbe {
	p := KProbe{Addr: w.r.ptr(w.f.Addr, at), Disabled: w.r.uint(w.f.Flags, at)&kprobeDisabled != 0}
	if sym, off, ok := w.k.syms.At(p.Addr); ok {
		p.Symbol, p.Offset = sym.Name, off
	}
	if sym, off, ok := w.k.syms.At(w.r.ptr(w.f.Handler, at)); ok && off == 0 {
		p.Handler = sym.Name
	}
	return p
}
