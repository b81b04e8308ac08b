package labtest

import (
	"bufio"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// StartC starts the monitor in plain C that costs are measured against, which the
// lab builds: see its source for the arguments. It returns when the monitor has
// events. stop ends it, at the latest at the test's end, and returns how many those
// were.
func StartC(t *testing.T, args ...string) (stop func() (events int)) {
	t.Helper()
	cmd := exec.Command("stepover", args...)
	var msg strings.Builder
	cmd.Stderr = &msg
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("the C monitor, which the lab builds: %v", err)
	}
	lines := bufio.NewScanner(pipe)
	stop = sync.OnceValue(func() int {
		// Until it ends, since a signal that comes right before it waits is lost.
		ended := make(chan struct{})
		go func() {
			for {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					return
				}
				select {
				case <-ended:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		}()
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		err := cmd.Wait()
		close(ended)
		n, perr := strconv.Atoi(strings.TrimPrefix(last, "hits="))
		if err := errors.Join(err, perr); err != nil {
			t.Errorf("the C monitor: %v, after %q: %s", err, last, msg.String())
		}
		return n
	})
	t.Cleanup(func() { stop() }) // whatever else goes wrong, the guest is let go
	if !lines.Scan() || lines.Text() != "armed" {
		stop()
		t.Fatalf("the C monitor says %q: %s", lines.Text(), msg.String())
	}
	return stop
}
