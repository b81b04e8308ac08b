package session

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Supervised, the test binary is a program that ends as its argument says.
func TestMain(m *testing.M) {
	if yes, again := Supervised(); yes {
		fmt.Println(os.Args[1], again)
		switch os.Args[1] {
		case "done":
			os.Exit(0)
		case "failed":
			os.Exit(1)
		case "crashed":
			os.Exit(2)
		case "killed":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "endless":
			time.Sleep(time.Minute) // SIGTERM ends it
		}
	}
	os.Exit(m.Run())
}

// What ends by itself is not started again. What does not has to be recovered
// first, for which there is no Xen here.
func TestSupervisor(t *testing.T) {
	for how, want := range map[string]struct {
		status int
		says   string
	}{
		"done":    {0, ""},
		"failed":  {1, ""},
		"crashed": {1, "ended by exit status 2; it could not be recovered: xen: "},
		"killed":  {1, "ended by signal: killed; it could not be recovered: xen: "},
	} {
		var out, msg bytes.Buffer
		s := Supervisor{Program: "prog", Domain: "guest", Args: []string{how}, Stdout: &out, Stderr: &msg}
		if status := s.Run(t.Context()); status != want.status || out.String() != how+" false\n" {
			t.Errorf("%s: status %d, output %q", how, status, out.String())
		}
		if m := msg.String(); m == "" != (want.says == "") || !strings.Contains(m, want.says) {
			t.Errorf("%s: %q", how, m)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out, msg bytes.Buffer
	s := Supervisor{Program: "prog", Domain: "guest", Args: []string{"endless"}, Stdout: &out, Stderr: &msg}
	if status := s.Run(ctx); status != 1 || !strings.Contains(msg.String(), "signal: terminated") {
		t.Errorf("endless: status %d, %q", status, msg.String())
	}
}
