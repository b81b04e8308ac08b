package guest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// IO is how many read and write calls the guest's kernel has counted for a
// thread.
type IO struct{ Reads, Writes int }

var (
	opening   = regexp.MustCompile(`(?m)^257 `) // in openat
	readsIn   = regexp.MustCompile(`(?m)^syscr: (\d+)`)
	writesIn  = regexp.MustCompile(`(?m)^syscw: (\d+)`)
	pipeTries = 200
)

// AtPipe waits until a process is blocked in opening a pipe and returns what
// its kernel has counted by then: for the thread, because the count of the
// process takes in that of its children.
func (g *Guest) AtPipe(ctx context.Context, pid int) (IO, error) {
	var out string
	for range pipeTries {
		var err error
		out, _, err = g.Exec(ctx, fmt.Sprintf("cat /proc/%d/syscall /proc/%d/task/%d/io", pid, pid, pid))
		if err != nil {
			return IO{}, err
		}
		r, w := readsIn.FindStringSubmatch(out), writesIn.FindStringSubmatch(out)
		if opening.MatchString(out) && r != nil && w != nil {
			reads, rerr := strconv.Atoi(r[1])
			writes, werr := strconv.Atoi(w[1])
			return IO{reads, writes}, errors.Join(rerr, werr)
		}
		if err := sleep(ctx, 2*poll); err != nil {
			return IO{}, err
		}
	}
	return IO{}, fmt.Errorf("guest: process %d did not come to its pipe; it says:\n%s", pid, strings.TrimSpace(out))
}
