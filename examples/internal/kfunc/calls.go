package kfunc

import (
	"iter"

	"github.com/govmi/govmi/vmi"
)

const (
	// maxDepth bounds the calls that one thread is in.
	maxDepth = 1 << 10
	// maxThreads bounds the threads that are in a call at a time.
	maxThreads = 1 << 15
	// maxSpare bounds the memory that is kept for threads to come.
	maxSpare = 64
	// stackSize is that of the kernel's stacks, which are aligned to it
	// (THREAD_SIZE).
	stackSize = 16 << 10
)

// Call is a call of a function that has not ended.
type Call[T any] struct {
	Func  int // the user's number of the function
	SP    uint64
	Value T
}

// Calls are the calls in flight, by thread. A call's end is told by its thread,
// its function and its stack pointer, so that none is taken for another's.
type Calls[T any] struct {
	threads map[vmi.VirtAddr][]Call[T]
	spare   [][]Call[T] // of threads that are in none any more
	// Missed counts the calls whose end was not seen, Unentered the ends without
	// an entry, of calls in flight when tracing began among others, Dropped the
	// calls for which there was no room.
	Missed, Unentered, Dropped int
}

// Enter notes a call by the thread at addr. missed are calls that must have ended,
// since their stack is in use again, the innermost first; they are valid until
// the next call of Enter or Leave.
func (c *Calls[T]) Enter(addr vmi.VirtAddr, call Call[T]) (depth int, missed []Call[T], ok bool) {
	if c.threads == nil {
		c.threads = map[vmi.VirtAddr][]Call[T]{}
	}
	s := c.threads[addr]
	if n := len(c.spare); s == nil && n > 0 {
		s, c.spare = c.spare[n-1], c.spare[:n-1]
	}
	for len(s) > 0 {
		top := s[len(s)-1]
		if top.SP/stackSize != call.SP/stackSize || top.SP > call.SP {
			break
		}
		missed = append(missed, top)
		s = s[:len(s)-1]
	}
	c.Missed += len(missed)
	if len(s) >= maxDepth || len(s) == 0 && len(c.threads) >= maxThreads {
		c.keep(addr, s)
		c.Dropped++
		return len(s), missed, false
	}
	c.threads[addr] = append(s, call)
	return len(s), missed, true
}

// Leave ends a call, and returns it and those within it whose end was not seen,
// the innermost first.
func (c *Calls[T]) Leave(addr vmi.VirtAddr, fn int, sp uint64) (call Call[T], depth int, missed []Call[T], ok bool) {
	s := c.threads[addr]
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].Func != fn || s[i].SP != sp {
			continue
		}
		for j := len(s) - 1; j > i; j-- {
			missed = append(missed, s[j])
		}
		c.Missed += len(missed)
		call = s[i]
		c.keep(addr, s[:i])
		return call, i, missed, true
	}
	c.Unentered++
	return call, len(s), nil, false
}

func (c *Calls[T]) keep(addr vmi.VirtAddr, s []Call[T]) {
	if len(s) == 0 {
		delete(c.threads, addr)
		if len(c.spare) < maxSpare {
			c.spare = append(c.spare, s)
		}
		return
	}
	c.threads[addr] = s
}

// Open yields the calls in flight by their depths, of each thread the innermost
// first.
func (c *Calls[T]) Open() iter.Seq2[int, Call[T]] {
	return func(yield func(int, Call[T]) bool) {
		for _, s := range c.threads {
			for i := len(s) - 1; i >= 0; i-- {
				if !yield(i, s[i]) {
					return
				}
			}
		}
	}
}
