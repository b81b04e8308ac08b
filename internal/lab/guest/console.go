package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"
)

var (
	readyLine = regexp.MustCompile(`(?m)^GUEST READY$`)
	panicLine = regexp.MustCompile(`Kernel panic - not syncing`)
)

const tailSize = 4 << 10

// Console is a guest's console output, kept by dom0's console daemon.
type Console struct {
	file string
	// ended tells why the guest will print no more, if it will not.
	ended func() error
}

// Bytes returns everything printed so far.
func (c *Console) Bytes() ([]byte, error) { return c.since(0) }

// end is where what is printed next will be.
func (c *Console) end() (int64, error) {
	info, err := os.Stat(c.file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("guest: console: %w", err)
	}
	return info.Size(), nil
}

// since returns what was printed from an earlier end on. Looking for something reads
// no more than that: dom0 works at the cost of the guest, which tests measure.
func (c *Console) since(from int64) ([]byte, error) {
	f, err := os.Open(c.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // nothing printed yet
	}
	if err != nil {
		return nil, fmt.Errorf("guest: console: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, from, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("guest: console: %w", err)
	}
	// The kernel ends its lines as a terminal does, the programs do not.
	return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), nil
}

// String returns everything printed so far, or says why it cannot.
func (c *Console) String() string {
	b, err := c.Bytes()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail returns the last lines.
func (c *Console) Tail() string {
	s := c.String()
	return s[max(0, len(s)-tailSize):]
}

// Wait waits until re matches somewhere in the lines that are complete and returns
// the match and its submatches. The error wraps [ErrPanic] when the guest's kernel
// panics before, [ErrGone] when the guest stops or is destroyed, or ctx's cause.
func (c *Console) Wait(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	return c.waitFrom(ctx, 0, re)
}

func (c *Console) waitFrom(ctx context.Context, from int64, re *regexp.Regexp) ([]string, error) {
	var ended error
	start := time.Now()
	for asked, first := start, true; ; first = false {
		b, err := c.since(from)
		if err != nil {
			return nil, err
		}
		if m := re.FindSubmatch(b[:bytes.LastIndexByte(b, '\n')+1]); m != nil {
			match := make([]string, len(m))
			for i := range m {
				match[i] = string(m[i])
			}
			return match, nil
		}
		if first { // it may have panicked before
			if b, err = c.Bytes(); err != nil {
				return nil, err
			}
		}
		if panicLine.Match(b) {
			return nil, fmt.Errorf("%w, console:\n%s", ErrPanic, c.Tail())
		}
		if ended != nil {
			return nil, fmt.Errorf("%w while waiting for %q, console:\n%s", ended, re, c.Tail())
		}
		// What takes long is looked at less often: a look costs the guest time.
		pause := min(max(poll, time.Since(start)/20), slowPoll)
		if c.ended != nil && time.Since(asked) > endPoll {
			asked, ended = time.Now(), c.ended() // its last words may be on their way
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("guest: %w while waiting for %q, console:\n%s", err, re, c.Tail())
		}
	}
}
