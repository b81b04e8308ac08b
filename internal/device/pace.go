package device

import (
	"runtime"
	"sync/atomic"
	"time"
)

// yieldInterval is how long a goroutine makes system calls before it passes through
// Go's scheduler. From one that has not for 10 ms the scheduler's monitor thread
// takes the processor away in each system call, at the price of two context
// switches: as much as a small hypercall costs, and a third of what an event does.
const yieldInterval = 7 * time.Millisecond

// Pace has a goroutine that makes one system call after the other keep its
// processor. Its zero value is ready. Several goroutines may use one, and share what
// it does.
type Pace struct{ passed atomic.Int64 }

var start = time.Now()

// Step is called before or after each system call, or some that belong together.
func (p *Pace) Step() {
	now := int64(time.Since(start))
	if now-p.passed.Load() > int64(yieldInterval) {
		p.passed.Store(now)
		runtime.Gosched()
	}
}
