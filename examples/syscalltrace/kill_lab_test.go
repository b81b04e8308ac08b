//go:build lab

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
)

// mainVar makes the test binary the program itself.
const mainVar = "GOVMI_SYSCALLTRACE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

// Signals in mid-trace end the program with status 0 and leave the guest's
// kernel as it was and its processes at work, time and again.
func TestLabSignals(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, shared)
	labtest.Intact(t, g)
	busy := g.Start(ctx, "exec workload busy -kinds read,write,getppid -spin 10000")
	for i := range labtest.Count(40) {
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[i%2]
		var msg bytes.Buffer
		cmd := exec.Command("/proc/self/exe", "-domain", g.Name(), "-comm", "workload")
		cmd.Env = append(os.Environ(), mainVar+"=1")
		cmd.Stderr = &msg
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var trace bytes.Buffer
		buf := make([]byte, 4096)
		for signalled := false; ; {
			n, err := out.Read(buf)
			trace.Write(buf[:n])
			if !signalled && bytes.Count(trace.Bytes(), []byte("\n")) > 20 {
				signalled = true
				if err := cmd.Process.Signal(sig); err != nil {
					t.Error(err)
				}
			}
			if err != nil {
				break
			}
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(msg.String(), " 0 lost\n") {
			t.Errorf("%v number %d: %v, messages %q", sig, i, err, msg.String())
		}
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(ctx); status != 0 {
		t.Errorf("the guest's process ended with status %d: %s", status, out)
	}
}
