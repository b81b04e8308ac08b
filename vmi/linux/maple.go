package linux

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

type mapleFields struct {
	Root         Field `btf:"maple_tree.ma_root"`
	RangePivots  Field `btf:"maple_range_64.pivot"`
	RangeSlots   Field `btf:"maple_range_64.slot"`
	ArangePivots Field `btf:"maple_arange_64.pivot"`
	ArangeSlots  Field `btf:"maple_arange_64.slot"`
}

// Kinds of nodes (enum maple_type), and what the low bits of a pointer to a node
// mean (include/linux/maple_tree.h).
const (
	mapleLeaf   = 1
	mapleRange  = 2
	mapleArange = 3

	mapleNodeMask  = 0xff
	mapleTypeShift = 3
	mapleTypeMask  = 0xf
	mapleInternal  = 2 // of the two lowest bits, in a root that is a node

	maxMapleDepth = 31
	maxMapleNodes = 1 << 20
)

// mapleTree yields the entries of a maple tree in ascending order of their
// indices. Ranges without an entry are left out.
func (k *Kernel) mapleTree(r *reader, tree vmi.VirtAddr) iter.Seq2[vmi.VirtAddr, error] {
	return func(yield func(vmi.VirtAddr, error) bool) {
		f, err := k.fields.maple.of(k)
		if err != nil {
			yield(0, err)
			return
		}
		root := r.ptr(f.Root, tree)
		w := mapleWalk{f: f, r: r, yield: yield}
		switch {
		case r.err != nil:
			err = r.err
		case root == 0:
		case root&3 == mapleInternal && root >= 4096:
			_, err = w.node(root, 0, ^uint64(0), 0)
		default:
			yield(root, nil)
		}
		if err != nil {
			yield(0, fmt.Errorf("maple tree at %v: %w", tree, err))
		}
	}
}

type mapleWalk struct {
	f     *mapleFields
	r     *reader
	nodes int
	yield func(vmi.VirtAddr, error) bool
}

// node yields the entries below a node for the indices from low to high, and
// reports whether to go on.
func (w *mapleWalk) node(entry vmi.VirtAddr, low, high uint64, depth int) (more bool, err error) {
	if w.nodes++; depth > maxMapleDepth || w.nodes > maxMapleNodes {
		return false, fmt.Errorf("%w: it does not end", ErrCorrupt)
	}
	kind := uint64(entry) >> mapleTypeShift & mapleTypeMask
	pivotField, slotField := w.f.RangePivots, w.f.RangeSlots
	switch kind {
	case mapleLeaf, mapleRange:
	case mapleArange:
		pivotField, slotField = w.f.ArangePivots, w.f.ArangeSlots
	default:
		return false, fmt.Errorf("%w: node of kind %d", ErrCorrupt, kind)
	}
	at := entry &^ mapleNodeMask
	pivots, slots := w.r.bytes(pivotField, at), w.r.bytes(slotField, at)
	if w.r.err != nil {
		return false, w.r.err
	}
	for i := 0; 8*i+8 <= len(slots); i++ {
		// The last pivot in use is 0, or not there: it is that of the node.
		end := high
		if 8*i+8 <= len(pivots) {
			if p := binary.LittleEndian.Uint64(pivots[8*i:]); p != 0 || i == 0 {
				end = p
			}
		}
		if end < low || end > high {
			return false, fmt.Errorf("%w: pivot %#x of the node at %v is not from %#x to %#x", ErrCorrupt, end, at, low, high)
		}
		slot := vmi.VirtAddr(binary.LittleEndian.Uint64(slots[8*i:]))
		switch {
		case kind != mapleLeaf:
			if more, err := w.node(slot, low, end, depth+1); !more || err != nil {
				return more, err
			}
		case slot >= kernelHalf && slot&7 == 0: // others are empty or reserved
			if !w.yield(slot, nil) {
				return false, nil
			}
		}
		if end == high {
			break
		}
		low = end + 1
	}
	return true, nil
}
