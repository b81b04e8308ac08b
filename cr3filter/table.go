package cr3filter

import (
	"hash/maphash"
	"iter"
	"sync/atomic"
)

// table is a set of numbers below 1<<62, each with a flag. One goroutine at a
// time changes it, at a cost that does not grow with the set; any number of others
// read it meanwhile. They take no lock, allocate nothing, and see each change as a
// whole. The numbers are the guest's, so their places depend on a seed that it
// does not know.
type table struct {
	seed  maphash.Seed
	slots atomic.Pointer[[]atomic.Uint64] // a power of two; a quarter of them is free at least
	n     int                             // numbers in the set
	taken int                             // slots that are not free: a removed number keeps its
}

// A slot is free, or removed and passed over, or has a number above two bits.
const (
	slotFree    = 0
	slotUsed    = 1
	slotFlag    = 2
	slotRemoved = slotFlag
	minSlots    = 16
)

func newTable() *table {
	t := &table{seed: maphash.MakeSeed()}
	t.slots.Store(new(make([]atomic.Uint64, minSlots)))
	return t
}

func slotOf(number uint64, flag bool) uint64 {
	if flag {
		return number<<2 | slotUsed | slotFlag
	}
	return number<<2 | slotUsed
}

// find returns what the slot of a number has, slotFree if there is none, and
// the slot, or the one to put the number into.
func (t *table) find(slots []atomic.Uint64, number uint64) (has uint64, at *atomic.Uint64) {
	mask := uint64(len(slots) - 1)
	for i := maphash.Comparable(t.seed, number) & mask; ; i = (i + 1) & mask {
		slot := &slots[i]
		switch w := slot.Load(); {
		case w == slotFree:
			if at == nil {
				at = slot
			}
			return slotFree, at
		case w == slotRemoved:
			if at == nil {
				at = slot
			}
		case w>>2 == number:
			return w, slot
		}
	}
}

// get looks a number up.
func (t *table) get(number uint64) (flag, in bool) {
	w, _ := t.find(*t.slots.Load(), number)
	return w&slotFlag != 0, w != slotFree
}

// put adds a number, or changes its flag.
func (t *table) put(number uint64, flag bool) {
	has, at := t.find(*t.slots.Load(), number)
	if has == slotFree {
		if at.Load() == slotFree {
			if 4*(t.taken+1) > 3*len(*t.slots.Load()) {
				t.renew()
				_, at = t.find(*t.slots.Load(), number)
			}
			t.taken++
		}
		t.n++
	}
	at.Store(slotOf(number, flag))
}

// remove takes a number out, if it is there.
func (t *table) remove(number uint64) {
	if has, at := t.find(*t.slots.Load(), number); has != slotFree {
		at.Store(slotRemoved)
		t.n--
	}
}

// renew moves the set to slots of which at most half are taken. Readers go on with
// the old ones until the new ones are complete.
func (t *table) renew() {
	size := minSlots
	for size < 2*(t.n+1) {
		size *= 2
	}
	slots := make([]atomic.Uint64, size)
	for number, flag := range t.all() {
		_, at := t.find(slots, number)
		at.Store(slotOf(number, flag))
	}
	t.taken = t.n
	t.slots.Store(&slots)
}

// all yields the set in no order. A number that is removed and added again
// meanwhile may come twice.
func (t *table) all() iter.Seq2[uint64, bool] {
	return func(yield func(uint64, bool) bool) {
		slots := *t.slots.Load()
		for i := range slots {
			w := slots[i].Load()
			if w&slotUsed != 0 && !yield(w>>2, w&slotFlag != 0) {
				return
			}
		}
	}
}
