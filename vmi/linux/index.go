package linux

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/govmi/govmi/vmi"
)

type indexFields struct {
	PIDs     Field `btf:"pid_namespace.idr.idr_rt.xa_head"`
	Shift    Field `btf:"xa_node.shift"`
	Slots    Field `btf:"xa_node.slots"`
	PIDTasks Field `btf:"pid.tasks"`
	PIDLinks Field `btf:"task_struct.pid_links"`

	Tree  Field `btf:"mod_tree_root.root.tree"`
	Node  Field `btf:"mod_tree_node.node.node"`
	Mod   Field `btf:"mod_tree_node.mod"`
	Left  Field `btf:"rb_node.rb_left"`
	Right Field `btf:"rb_node.rb_right"`
}

// tasksByPID yields the threads that the initial namespace's pids lead to.
func (k *Kernel) tasksByPID() iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		f, err := k.fields.index.of(k)
		if err != nil {
			yield(Task{}, err)
			return
		}
		ns, err := k.syms.Lookup("init_pid_ns")
		if err != nil {
			yield(Task{}, err)
			return
		}
		r := &reader{s: k.as}
		first := Field{Path: "pid.tasks", Size: 8} // of the list of PIDTYPE_PID, the first
		for pid, err := range xarray(r, f, r.ptr(f.PIDs, ns)) {
			if err != nil {
				yield(Task{}, fmt.Errorf("pids: %w", err))
				return
			}
			link := r.ptr(first, r.in(f.PIDTasks, pid))
			if r.err != nil {
				yield(Task{}, fmt.Errorf("pids: %w", r.err))
				return
			}
			if link == 0 {
				continue // a group's or a session's, whose leader is gone
			}
			t, err := k.newTask(link - vmi.VirtAddr(f.PIDLinks.Offset))
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// A node has 6 bits of an index.
const (
	maxXArrayDepth = 11
	maxXArrayNodes = 1 << 18
)

// xarray yields the pointers in an XArray, or a radix tree, in ascending order
// of their indices (include/linux/xarray.h).
func xarray(r *reader, f *indexFields, head vmi.VirtAddr) iter.Seq2[vmi.VirtAddr, error] {
	return func(yield func(vmi.VirtAddr, error) bool) {
		nodes := 0
		var walk func(entry vmi.VirtAddr, above uint64, depth int) (bool, error)
		walk = func(entry vmi.VirtAddr, above uint64, depth int) (bool, error) {
			switch {
			case entry < kernelHalf: // nothing, reserved, or a number
				return true, nil
			case entry&3 == 0:
				return yield(entry, nil), nil
			case entry&3 != 2: // no node either
				return true, nil
			}
			node := entry &^ 3
			shift := r.uint(f.Shift, node)
			slots := r.bytes(f.Slots, node)
			if r.err != nil {
				return false, r.err
			}
			if nodes++; shift >= above || depth > maxXArrayDepth || nodes > maxXArrayNodes {
				return false, fmt.Errorf("%w: xarray node at %v", ErrCorrupt, node)
			}
			for ; len(slots) >= 8; slots = slots[8:] {
				more, err := walk(vmi.VirtAddr(binary.LittleEndian.Uint64(slots)), shift, depth+1)
				if !more || err != nil {
					return more, err
				}
			}
			return true, nil
		}
		if r.err != nil {
			yield(0, r.err)
			return
		}
		if _, err := walk(head, 1<<8, 0); err != nil {
			yield(0, err)
		}
	}
}

// modulesByAddress yields the addresses of the modules that the kernel has in
// its index of code and data, once for each of their ranges.
func (k *Kernel) modulesByAddress() iter.Seq2[vmi.VirtAddr, error] {
	return func(yield func(vmi.VirtAddr, error) bool) {
		f, err := k.fields.index.of(k)
		if err != nil {
			yield(0, err)
			return
		}
		tree, err := k.syms.Lookup("mod_tree")
		if err != nil {
			yield(0, err)
			return
		}
		// There are two trees, of which readers use one while the other changes.
		r := &reader{s: k.as}
		root := r.ptr(Field{Path: f.Tree.Path, Size: 8}, r.in(f.Tree, tree))
		for node, err := range rbTree(r, f, root) {
			if err == nil {
				node = r.ptr(f.Mod, node-vmi.VirtAddr(f.Node.Offset))
				err = r.err
			}
			if !yield(node, err) || err != nil {
				return
			}
		}
	}
}

const (
	maxTreeNodes = 1 << 20
	// maxTreeDepth is twice that of a balanced tree of as many nodes.
	maxTreeDepth = 40
)

// rbTree yields the nodes of a red-black tree in order.
func rbTree(r *reader, f *indexFields, root vmi.VirtAddr) iter.Seq2[vmi.VirtAddr, error] {
	return func(yield func(vmi.VirtAddr, error) bool) {
		nodes := 0
		var walk func(node vmi.VirtAddr, depth int) (bool, error)
		walk = func(node vmi.VirtAddr, depth int) (bool, error) {
			if node == 0 || r.err != nil {
				return r.err == nil, r.err
			}
			if nodes++; depth > maxTreeDepth || nodes > maxTreeNodes {
				return false, fmt.Errorf("%w: tree node at %v", ErrCorrupt, node)
			}
			if more, err := walk(r.ptr(f.Left, node), depth+1); !more || err != nil {
				return more, err
			}
			if !yield(node, nil) {
				return false, nil
			}
			return walk(r.ptr(f.Right, node), depth+1)
		}
		if _, err := walk(root, 0); err != nil {
			yield(0, err)
		}
	}
}
