package lane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Errors that the console tells of.
var (
	// ErrXenPanic reports that the hypervisor has crashed.
	ErrXenPanic = errors.New("the hypervisor has panicked")
	// ErrDom0Panic reports that dom0's kernel has crashed.
	ErrDom0Panic = errors.New("dom0's kernel has panicked")
	// ErrDom0Init reports that dom0's user space did not come up, or ended.
	ErrDom0Init = errors.New("dom0 did not come up")
)

const (
	tailLines    = 40
	maxLine      = 4096
	pollInterval = 50 * time.Millisecond
	// settle is how long the console may go on after a panic before it is reported: the reason comes after the headline.
	settle = 700 * time.Millisecond
)

// Console follows the file that the first serial port is written to. It is safe for concurrent use.
type Console struct {
	done   chan struct{}
	failed chan struct{}

	mu      sync.Mutex
	lines   []string // the last ones
	partial []byte
	last    time.Time // of growth
	err     error
	reason  string // the line that tells of err
	subs    []func(line string)
}

func newConsole(ctx context.Context, file string) *Console {
	c := &Console{done: make(chan struct{}), failed: make(chan struct{}), last: time.Now()}
	go c.follow(ctx, file)
	return c
}

// OnLine calls f for each line to come, from one goroutine.
func (c *Console) OnLine(f func(line string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(c.subs, f)
}

// Failed is closed after a panic of Xen or dom0 has been seen.
func (c *Console) Failed() <-chan struct{} { return c.failed }

// Err returns which panic was seen: an error that wraps [ErrXenPanic], [ErrDom0Panic] or [ErrDom0Init].
func (c *Console) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Reason returns the line in which the panic was seen; what follows it may push it out of [Console.Tail].
func (c *Console) Reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Tail returns the last lines.
func (c *Console) Tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := c.lines
	if len(c.partial) > 0 {
		lines = append(lines[:len(lines):len(lines)], printable(c.partial))
	}
	return strings.Join(lines, "\n")
}

// LastOutput is when the console last grew.
func (c *Console) LastOutput() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Console) follow(ctx context.Context, file string) {
	defer close(c.done)
	f, err := os.Open(file)
	if err != nil {
		c.fail(err)
		return
	}
	defer f.Close()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	var deadline time.Time // of a panic's report
	for end := false; ; {
		n, err := f.Read(buf)
		c.add(buf[:n])
		if n > 0 {
			continue
		}
		if err != nil && err != io.EOF {
			c.fail(err)
			return
		}
		switch {
		case c.Err() == nil:
		case deadline.IsZero():
			deadline = time.Now().Add(settle)
		case end || time.Now().After(deadline):
			close(c.failed)
			return
		}
		if end {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			end = true // read what is left
		}
	}
}

func (c *Console) fail(err error) {
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.failed)
}

func (c *Console) add(b []byte) {
	if len(b) == 0 {
		return
	}
	var fresh []string
	c.mu.Lock()
	c.last = time.Now()
	c.partial = append(c.partial, b...)
	for {
		i := bytes.IndexByte(c.partial[:min(len(c.partial), maxLine)], '\n')
		if i < 0 && len(c.partial) < maxLine {
			break
		}
		if i < 0 {
			i = maxLine - 1
		}
		line := printable(c.partial[:i+1])
		c.partial = c.partial[i+1:]
		if line == "" {
			continue
		}
		fresh = append(fresh, line)
		if err := diagnose(line); err != nil && c.err == nil {
			c.err, c.reason = err, line
		}
	}
	c.lines = append(c.lines, fresh...)
	c.lines = append([]string(nil), c.lines[max(0, len(c.lines)-tailLines):]...)
	subs := c.subs
	c.mu.Unlock()
	for _, line := range fresh {
		for _, f := range subs {
			f(line)
		}
	}
}

// printable drops what a terminal would act on.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, string(b))
}

var (
	xenPanic   = regexp.MustCompile(`^\(XEN\).*(Panic on CPU|FATAL TRAP|Xen BUG at|Assertion .* failed at)`)
	dom0Crash  = regexp.MustCompile(`^\(XEN\).*Hardware Dom0 (crashed|shutdown: watchdog)`)
	fromGuest  = regexp.MustCompile(`^\(XEN\)|^\(d[1-9]`)
	dom0Panic  = regexp.MustCompile(`Kernel panic - not syncing`)
	initFailed = regexp.MustCompile(`GOVMI-DOM0-FAILED`)
)

// diagnose reads one line of the console.
func diagnose(line string) error {
	switch {
	case xenPanic.MatchString(line):
		return ErrXenPanic
	case dom0Crash.MatchString(line):
		return ErrDom0Panic
	case fromGuest.MatchString(line): // a guest may write whatever it likes
		return nil
	case dom0Panic.MatchString(line):
		return ErrDom0Panic
	case initFailed.MatchString(line):
		return ErrDom0Init
	}
	return nil
}
