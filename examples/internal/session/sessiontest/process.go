package sessiontest

import (
	"os"
	"os/exec"
	"testing"
)

// Process is a program in a process of its own, which signals can end.
type Process struct {
	*exec.Cmd
	Out, Msg Buffer
}

// Itself starts the test's binary as the program that it is a test of. The binary's
// TestMain is that program where the variable is set. The caller waits for its end.
func Itself(t *testing.T, variable string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command("/proc/self/exe", args...)}
	p.Env = append(os.Environ(), variable+"=1")
	p.Stdout, p.Stderr = &p.Out, &p.Msg
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}
