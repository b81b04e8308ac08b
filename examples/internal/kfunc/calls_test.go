package kfunc

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	stackA = 0xffffc90000010000
	stackB = 0xffffc90000020000
)

func TestCallsNest(t *testing.T) {
	var c Calls[string]
	enter := func(thread int, fn int, sp uint64, want int) {
		t.Helper()
		if depth, missed, ok := c.Enter(0xffff888000000000+8*0, Call[string]{fn, sp, "v"}); thread != 0 || depth != want || missed != nil || !ok {
			t.Errorf("function %d: depth %d, missed %v, %t", fn, depth, missed, ok)
		}
	}
	leave := func(fn int, sp uint64, want int) {
		t.Helper()
		if call, depth, missed, ok := c.Leave(0xffff888000000000, fn, sp); depth != want || missed != nil || !ok || call.Func != fn || call.SP != sp {
			t.Errorf("function %d: %+v, depth %d, missed %v, %t", fn, call, depth, missed, ok)
		}
	}
	enter(0, 1, stackA+0x3f00, 0)
	enter(0, 2, stackA+0x3e00, 1)
	enter(0, 1, stackA+0x3d00, 2) // recursion
	enter(0, 3, stackB+0x3ff0, 3) // an interrupt, on a stack of its own
	leave(3, stackB+0x3ff0, 3)
	leave(1, stackA+0x3d00, 2)
	leave(2, stackA+0x3e00, 1)
	enter(0, 4, stackA+0x3e00, 1) // in the place of 2
	leave(4, stackA+0x3e00, 1)
	leave(1, stackA+0x3f00, 0)
	if len(c.threads) != 0 || c.Missed+c.Unentered+c.Dropped != 0 {
		t.Errorf("%+v", c)
	}
}

// Ends that are not seen, and those of calls from before, mix nothing up.
func TestCallsMissed(t *testing.T) {
	const thread, other = 0xffff888000000000, 0xffff888000004000
	var c Calls[int]
	if _, _, _, ok := c.Leave(thread, 1, stackA+0x3000); ok || c.Unentered != 1 {
		t.Error("an end without an entry")
	}
	c.Enter(thread, Call[int]{1, stackA + 0x3000, 10})
	c.Enter(thread, Call[int]{2, stackA + 0x2000, 20})
	c.Enter(thread, Call[int]{3, stackA + 0x1000, 30})
	if _, _, _, ok := c.Leave(other, 3, stackA+0x1000); ok {
		t.Error("another thread's end")
	}
	if _, _, _, ok := c.Leave(thread, 3, stackA+0x1008); ok {
		t.Error("another call's end")
	}
	// 2 and 3 have ended unseen: their stack is in use again.
	depth, missed, ok := c.Enter(thread, Call[int]{4, stackA + 0x2000, 40})
	if diff := cmp.Diff([]Call[int]{{3, stackA + 0x1000, 30}, {2, stackA + 0x2000, 20}}, missed); depth != 1 || !ok || diff != "" {
		t.Errorf("depth %d, %t\n%s", depth, ok, diff)
	}
	_, depth, missed, ok = c.Leave(thread, 1, stackA+0x3000)
	if diff := cmp.Diff([]Call[int]{{4, stackA + 0x2000, 40}}, missed); depth != 0 || !ok || diff != "" {
		t.Errorf("depth %d, %t\n%s", depth, ok, diff)
	}
	if c.Missed != 3 || len(c.threads) != 0 {
		t.Errorf("%+v", c)
	}
}

// What a guest does cannot use the monitor's memory up.
func TestCallsBounded(t *testing.T) {
	var c Calls[int]
	for i := range 3 * maxDepth {
		c.Enter(0xffff888000000000, Call[int]{1, stackA + uint64(i)*stackSize, 0})
	}
	if n := len(c.threads[0xffff888000000000]); n != maxDepth || c.Dropped != 2*maxDepth {
		t.Errorf("%d calls, %d dropped", n, c.Dropped)
	}
}

func TestCallsAllocateNothing(t *testing.T) {
	var c Calls[int]
	n := testing.AllocsPerRun(100, func() {
		c.Enter(0xffff888000000000, Call[int]{1, stackA + 0x3000, 1})
		c.Enter(0xffff888000000000, Call[int]{2, stackA + 0x2000, 2})
		c.Leave(0xffff888000000000, 2, stackA+0x2000)
		c.Leave(0xffff888000000000, 1, stackA+0x3000)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
